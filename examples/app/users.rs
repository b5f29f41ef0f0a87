//! What the product does with a store: read a user, change one, move money.

use crate::database::{Batch, Database, DatabaseError, Reply, Rows, Statement, Value};
use crate::user::{User, UserId, Versioned};

/// An account; the account of a sample user has the user's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct AccountId(pub u64);

/// Money on its way from one account to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// Chosen by the client: sending the same transfer twice moves the money once.
    pub id: u64,
    /// Where it is taken from.
    pub debit: AccountId,
    /// Where it goes.
    pub credit: AccountId,
    /// In cents, above 0.
    pub amount: u64,
}

/// Money taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdrawal {
    /// Where it is taken from.
    pub account: AccountId,
    /// In cents, above 0.
    pub amount: u64,
}

/// Where a read was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answered {
    /// By the store itself.
    Store,
    /// From a cache.
    Cache,
}

/// The product's view of its users; the web handlers know nothing else.
pub trait Users: Send + Sync {
    /// The user with this id, `None` if there is none.
    ///
    /// # Errors
    ///
    /// Whatever the store refuses or fails with; a missing user is not an error.
    fn user(&self, id: UserId) -> Reply<'_, Option<(Versioned, Answered)>>;

    /// Writes all fields of an existing user and returns the new version, `None` if there is no such user.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Check`] for a field that breaks a rule; otherwise as the store fails.
    fn update(&self, user: User) -> Reply<'_, Option<u64>>;

    /// Moves money: debit, credit and record in one transaction.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Guard`] for an account that is not there; [`DatabaseError::Check`] for too little money;
    /// [`DatabaseError::Unique`] if this transfer happened already.
    fn transfer(&self, transfer: Transfer) -> Reply<'_, ()>;

    /// Takes money out.
    ///
    /// # Errors
    ///
    /// As [`transfer`](Self::transfer).
    fn withdraw(&self, withdrawal: Withdrawal) -> Reply<'_, ()>;
}

/// The product's SQL over any database.
#[derive(Debug)]
pub struct SqlUsers<D> {
    database: D,
}

impl<D: Database> SqlUsers<D> {
    /// The product on top of `database`.
    pub fn new(database: D) -> Self {
        Self { database }
    }

    /// The database below.
    pub fn database(&self) -> &D {
        &self.database
    }
}

/// Reads one user; public so that cache servers and experiments send the very statement that the web tier sends.
pub fn read_user(id: UserId) -> Batch {
    Batch::read(Statement::new(
        "SELECT version, first_name, last_name, phone FROM users WHERE id = ?1",
        [Value::from(id.0)],
    ))
}

/// Debit, credit and record: the batch that a crash must not cut in two.
pub fn move_money(transfer: Transfer) -> Batch {
    let (debit, credit) = (Value::from(transfer.debit.0), Value::from(transfer.credit.0));
    let amount = Value::from(transfer.amount);
    Batch::write([
        Statement::new("UPDATE accounts SET balance = balance - ?2 WHERE id = ?1", [debit.clone(), amount.clone()])
            .must_change(1),
        Statement::new("UPDATE accounts SET balance = balance + ?2 WHERE id = ?1", [credit.clone(), amount.clone()])
            .must_change(1),
        Statement::new(
            "INSERT INTO transfers (id, debit, credit, amount) VALUES (?1, ?2, ?3, ?4)",
            [Value::from(transfer.id), debit, credit, amount],
        ),
    ])
}

/// Reads the answer to [`read_user`].
///
/// # Errors
///
/// [`DatabaseError::Garbled`] if the row does not have the shape asked for.
pub fn parse_user(id: UserId, results: &[Rows]) -> Result<Option<Versioned>, DatabaseError> {
    let rows = &results.first().ok_or(DatabaseError::Garbled)?.rows;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let [version, first_name, last_name, phone] = row.as_slice() else {
        return Err(DatabaseError::Garbled);
    };
    let text = |value: &Value| value.as_text().map(str::to_owned).ok_or(DatabaseError::Garbled);
    let version = version.as_integer().and_then(|v| u64::try_from(v).ok()).ok_or(DatabaseError::Garbled)?;
    let user = User { id, first_name: text(first_name)?, last_name: text(last_name)?, phone: text(phone)? };
    Ok(Some(Versioned { version, user }))
}

impl<D: Database> Users for SqlUsers<D> {
    fn user(&self, id: UserId) -> Reply<'_, Option<(Versioned, Answered)>> {
        Box::pin(async move {
            let results = self.database.run(read_user(id)).await?;
            Ok(parse_user(id, &results)?.map(|user| (user, Answered::Store)))
        })
    }

    fn update(&self, user: User) -> Reply<'_, Option<u64>> {
        Box::pin(async move {
            let statement = Statement::new(
                "UPDATE users SET first_name = ?2, last_name = ?3, phone = ?4, version = version + 1 WHERE id = ?1 \
                 RETURNING version",
                [
                    Value::from(user.id.0),
                    Value::from(user.first_name.as_str()),
                    Value::from(user.last_name.as_str()),
                    Value::from(user.phone.as_str()),
                ],
            );
            let results = self.database.run(Batch::write([statement])).await?;
            let rows = &results.first().ok_or(DatabaseError::Garbled)?.rows;
            match rows.first().map(Vec::as_slice) {
                None => Ok(None),
                Some([Value::Integer(version)]) => Ok(u64::try_from(*version).ok()),
                Some(_) => Err(DatabaseError::Garbled),
            }
        })
    }

    fn transfer(&self, transfer: Transfer) -> Reply<'_, ()> {
        Box::pin(async move { self.database.run(move_money(transfer)).await.map(drop) })
    }

    fn withdraw(&self, withdrawal: Withdrawal) -> Reply<'_, ()> {
        Box::pin(async move {
            // Amounts are unsigned, but 0 must be refused here as in a transfer, where the table's CHECK does it.
            if withdrawal.amount == 0 {
                return Err(DatabaseError::Check);
            }
            let statement = Statement::new(
                "UPDATE accounts SET balance = balance - ?2 WHERE id = ?1",
                [Value::from(withdrawal.account.0), Value::from(withdrawal.amount)],
            );
            self.database.run(Batch::write([statement.must_change(1)])).await.map(drop)
        })
    }
}
