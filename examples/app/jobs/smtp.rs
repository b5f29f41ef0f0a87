//! Mail by SMTP (RFC 5321): the dialogue of a client, and a server that takes everything.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::effects::Effects;
use super::job::JobKey;

/// RFC 5321 section 4.5.3.2 allows minutes; this is one machine.
const TIMEOUT: Duration = Duration::from_secs(5);
/// RFC 5321 section 4.5.3.1.6 asks for 1,000 with the line's end.
const MAX_LINE_BYTES: u64 = 1_000;
const MAX_MAIL_BYTES: usize = 64 << 10;
const DOMAIN: &str = "tenfold.example";

/// Why a letter was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MailError {
    /// No connection, or it broke, or took too long. Whether the letter was taken is not known.
    #[error("the mail server cannot be reached")]
    Io(#[from] io::Error),
    /// The server said no.
    #[error("the mail server answered {0}")]
    Refused(u16),
    /// An address or a subject that would be another command or header.
    #[error("an address or subject has a character that SMTP does not allow there")]
    BadText,
}

/// A letter.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'a> {
    /// Becomes its Message-ID, by which servers and readers know a repetition.
    pub key: &'a JobKey,
    /// Address of the reader.
    pub to: &'a str,
    /// Subject.
    pub subject: &'a str,
    /// Text.
    pub text: &'a str,
}

/// Hands a letter to the server.
///
/// # Errors
///
/// [`MailError`].
pub async fn send(server: SocketAddr, letter: Letter<'_>) -> Result<(), MailError> {
    let is_clean = |text: &str| text.bytes().all(|byte| (b' '..0x7f).contains(&byte));
    if !is_clean(letter.to) || !is_clean(letter.subject) || letter.to.contains(['<', '>', ' ']) {
        return Err(MailError::BadText);
    }
    timeout(TIMEOUT, dialogue(server, letter)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn dialogue(server: SocketAddr, Letter { key, to, subject, text }: Letter<'_>) -> Result<(), MailError> {
    let mut stream = BufReader::new(TcpStream::connect(server).await?);
    stream.get_ref().set_nodelay(true)?;
    expect(&mut stream, 220).await?;
    let from = format!("no-reply@{DOMAIN}");
    for (command, reply) in [
        (format!("EHLO {DOMAIN}\r\n"), 250),
        (format!("MAIL FROM:<{from}>\r\n"), 250),
        (format!("RCPT TO:<{to}>\r\n"), 250),
        ("DATA\r\n".to_owned(), 354),
    ] {
        stream.write_all(command.as_bytes()).await?;
        expect(&mut stream, reply).await?;
    }
    let mut mail =
        format!("Message-ID: <{}@{DOMAIN}>\r\nFrom: {from}\r\nTo: {to}\r\nSubject: {subject}\r\n\r\n", key.as_str());
    for line in text.lines() {
        // RFC 5321 section 4.5.2: a line that begins with a dot gets another one.
        if line.starts_with('.') {
            mail.push('.');
        }
        mail.push_str(line);
        mail.push_str("\r\n");
    }
    mail.push_str(".\r\n");
    stream.write_all(mail.as_bytes()).await?;
    expect(&mut stream, 250).await?;
    // It is taken; whether the farewell arrives does not matter.
    let _ = stream.write_all(b"QUIT\r\n").await;
    Ok(())
}

/// Reads a reply, of one line or several (RFC 5321 section 4.2.1).
async fn expect(stream: &mut (impl AsyncBufRead + Unpin), code: u16) -> Result<(), MailError> {
    loop {
        let line = line(stream).await?;
        let found = line.get(..3).and_then(|digits| digits.parse().ok());
        let found: u16 = found.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        if line.as_bytes().get(3) == Some(&b'-') {
            continue;
        }
        return if found == code { Ok(()) } else { Err(MailError::Refused(found)) };
    }
}

/// A line without its end.
async fn line(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<String> {
    let mut line = String::new();
    stream.take(MAX_LINE_BYTES).read_line(&mut line).await?;
    match line.strip_suffix('\n') {
        Some(line) => Ok(line.trim_end_matches('\r').to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Takes every letter and notes its Message-ID, until the listener fails.
///
/// # Errors
///
/// No further connection can be accepted.
pub async fn serve(listener: TcpListener, effects: Arc<Effects>) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let effects = Arc::clone(&effects);
        // A client that goes away in the middle has sent nothing.
        tokio::spawn(async move { timeout(TIMEOUT, take(BufReader::new(stream), &effects)).await });
    }
}

async fn take(mut stream: BufReader<TcpStream>, effects: &Effects) -> io::Result<()> {
    stream.get_ref().set_nodelay(true)?;
    stream.write_all(b"220 sink ESMTP\r\n").await?;
    loop {
        let command = line(&mut stream).await?.to_ascii_uppercase();
        let reply: &[u8] = match command.split([' ', ':']).next().unwrap_or_default() {
            "EHLO" => b"250-sink\r\n250 SIZE 65536\r\n",
            "HELO" | "MAIL" | "RCPT" | "RSET" | "NOOP" => b"250 OK\r\n",
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await?;
                if data(&mut stream, effects).await? { b"250 OK\r\n" } else { b"554 no\r\n" }
            }
            "QUIT" => return stream.write_all(b"221 bye\r\n").await,
            _ => b"502 what?\r\n",
        };
        stream.write_all(reply).await?;
    }
}

/// Reads a letter to its end. False if it is too long or has no Message-ID.
async fn data(stream: &mut BufReader<TcpStream>, effects: &Effects) -> io::Result<bool> {
    let (mut id, mut bytes, mut in_head) = (None, 0, true);
    loop {
        let line = line(stream).await?;
        bytes += line.len() + 2;
        if line == "." {
            break;
        }
        if bytes > MAX_MAIL_BYTES {
            return Ok(false);
        }
        in_head &= !line.is_empty();
        if let Some(value) = line.strip_prefix("Message-ID: <").filter(|_| in_head) {
            id = value.split('@').next().and_then(|key| JobKey::new(key).ok());
        }
    }
    Ok(id.is_some_and(|key| {
        effects.note("mail", key);
        true
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sink() -> (SocketAddr, Arc<Effects>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, effects) = (listener.local_addr().unwrap(), Arc::new(Effects::default()));
        tokio::spawn(serve(listener, Arc::clone(&effects)));
        (address, effects)
    }

    #[tokio::test]
    async fn a_letter_arrives_and_its_repetition_is_known() {
        let (server, effects) = sink().await;
        let key = JobKey::new("mail-7").unwrap();
        let letter = Letter { key: &key, to: "ann@example.org", subject: "Hello", text: ".\r\n.hidden\n\nBye" };
        send(server, letter).await.unwrap();
        send(server, letter).await.unwrap();
        let counts = effects.of("mail");
        assert_eq!((counts.once.len(), counts.repeated), (1, 1));
    }

    #[tokio::test]
    async fn text_that_would_be_another_command_is_not_sent() {
        let (server, effects) = sink().await;
        let key = JobKey::new("mail-7").unwrap();
        for (to, subject) in [("a@b>\r\nRCPT TO:<c@d", "x"), ("a@b", "x\r\nBcc: c@d"), ("a b", "x")] {
            let letter = Letter { key: &key, to, subject, text: "" };
            assert!(matches!(send(server, letter).await, Err(MailError::BadText)));
        }
        assert!(effects.of("mail").once.is_empty());
    }

    #[tokio::test]
    async fn a_server_that_refuses_is_said() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"421-too busy\r\n421 come back\r\n").await.unwrap();
        });
        let key = JobKey::new("mail-7").unwrap();
        let letter = Letter { key: &key, to: "a@b", subject: "x", text: "" };
        assert!(matches!(send(server, letter).await, Err(MailError::Refused(421))));
    }
}
