//! Policies from configuration files.
//!
//! By hand, because a derived reader wants settings for every hash policy, and what people write first is its name.

use std::fmt;

use serde::de::{Deserialize, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, VariantAccess, Visitor};

use super::kind::Policy;

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.is_human_readable() {
            true => deserializer.deserialize_any(WholePolicy),
            false => deserializer.deserialize_enum("Policy", &[], WholePolicy),
        }
    }
}

struct WholePolicy;

impl<'de> Visitor<'de> for WholePolicy {
    type Value = Policy;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a policy, or a map from it to its settings")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Policy, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Policy, A::Error> {
        let Some(Named(policy)) = map.next_key()? else { return Err(A::Error::invalid_length(0, &self)) };
        let policy = match policy.hash_config() {
            Some(_) => policy.with_hash_config(map.next_value()?),
            None => map.next_value::<()>().map(|()| policy)?,
        };
        match map.next_key::<IgnoredAny>()? {
            None => Ok(policy),
            Some(_) => Err(A::Error::invalid_length(2, &self)),
        }
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Policy, A::Error> {
        let (Named(policy), settings) = data.variant()?;
        match policy.hash_config() {
            Some(_) => settings.newtype_variant().map(|settings| policy.with_hash_config(settings)),
            None => settings.unit_variant().map(|()| policy),
        }
    }
}

/// A policy by its name, or by its number among all in a format without names.
struct Named(Policy);

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(NameOrNumber)
    }
}

struct NameOrNumber;

impl Visitor<'_> for NameOrNumber {
    type Value = Named;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a policy")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Named, E> {
        text.parse().map(Named).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Named, E> {
        let policy = usize::try_from(number).ok().and_then(|number| Policy::all().nth(number));
        policy.map(Named).ok_or_else(|| E::custom("no policy has this number"))
    }
}

#[cfg(test)]
mod tests {
    use serde::de::value::{EnumAccessDeserializer, Error, MapDeserializer, U32Deserializer};
    use serde::de::{DeserializeSeed, IntoDeserializer};

    use super::*;
    use crate::{Config, HashConfig};

    fn read(json: &str) -> Result<Policy, String> {
        let config = serde_json::from_str::<Config>(&format!(r#"{{ "policy": {json} }}"#));
        config.map(|config| config.policy).map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_is_enough_and_hash_policies_may_have_settings() {
        for policy in Policy::all() {
            assert_eq!(read(&format!(r#""{policy}""#)), Ok(policy));
            assert_eq!(read(&serde_json::to_string(&policy).unwrap()), Ok(policy));
        }
        let settings = HashConfig { load_bound_percent: Some(125), ..HashConfig::default() };
        for policy in Policy::all().filter(|policy| policy.hash_config().is_some()) {
            let expected = policy.with_hash_config(settings);
            assert_eq!(read(&format!(r#"{{ "{policy}": {{ "load_bound_percent": 125 }} }}"#)), Ok(expected));
            assert_eq!(read(&serde_json::to_string(&expected).unwrap()), Ok(expected));
            assert_ne!(expected, policy);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |json: &str, expected: &str| {
            let error = read(json).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        };
        check(r#""round robin""#, "there are round-robin, weighted-round-robin");
        check(r#"{ "ring": {} }"#, "there are round-robin, weighted-round-robin");
        check(r#"{ "ring-hash": { "load": 3 } }"#, "unknown field `load`");
        check(r#"{ "p2c": {} }"#, "expected unit");
        check("{}", "the name of a policy, or a map from it to its settings");
        check(r#"{ "maglev": {}, "p2c": null }"#, "the name of a policy, or a map from it to its settings");
        check("3", "the name of a policy, or a map from it to its settings");
    }

    /// One policy of a format that writes numbers for names, as compact ones do.
    struct ByNumber(u32);

    impl<'de> EnumAccess<'de> for ByNumber {
        type Error = Error;
        type Variant = Self;

        fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
            let number: U32Deserializer<Error> = self.0.into_deserializer();
            Ok((seed.deserialize(number)?, self))
        }
    }

    impl<'de> VariantAccess<'de> for ByNumber {
        type Error = Error;

        fn unit_variant(self) -> Result<(), Error> {
            Ok(())
        }

        fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
            seed.deserialize(MapDeserializer::new(std::iter::empty::<(&str, u32)>()))
        }

        fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Error> {
            Err(serde::de::Error::custom("not of a policy"))
        }

        fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Error> {
            Err(serde::de::Error::custom("not of a policy"))
        }
    }

    #[test]
    fn formats_without_names_are_read_by_number() {
        for (number, policy) in (0..).zip(Policy::all()) {
            let read = Policy::deserialize(EnumAccessDeserializer::new(ByNumber(number)));
            assert_eq!(read, Ok(policy));
        }
        assert!(Policy::deserialize(EnumAccessDeserializer::new(ByNumber(11))).is_err());
    }
}
