//! serde over a [`Node`] tree; errors remember the way to the value that caused them.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};

use super::{Entry, Item, Node, Value, nearest};

/// Why a tree does not have the shape of the wanted type.
#[derive(Debug)]
pub(super) struct ShapeError {
    pub message: String,
    pub hint: String,
    /// Positions of children from the value that failed up to the root, innermost first.
    pub steps: Vec<usize>,
    /// The key itself is wrong, not the value below it.
    pub at_key: bool,
}

impl ShapeError {
    fn new(message: String, hint: String) -> Self {
        Self { message, hint, steps: Vec::new(), at_key: false }
    }

    fn below(mut self, position: usize) -> Self {
        self.steps.push(position);
        self
    }
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ShapeError {}

impl de::Error for ShapeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string(), String::new())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let wanted = in_yaml_terms(expected);
        let hint = match found {
            Unexpected::Bool(_)
            | Unexpected::Signed(_)
            | Unexpected::Unsigned(_)
            | Unexpected::Float(_)
                if wanted.contains("string") =>
            {
                "put the value in quotes"
            }
            Unexpected::Unit => "give it a value, or remove the key",
            Unexpected::Str(text)
                if wanted == WHOLE_NUMBER && text.parse::<i64>().is_ok()
                    || wanted == "a boolean" && matches!(text, "true" | "false") =>
            {
                "remove the quotes"
            }
            _ => "",
        };
        let found = match found {
            Unexpected::Unit => "nothing".to_owned(),
            Unexpected::Map => "a mapping".to_owned(),
            Unexpected::Seq => "a list".to_owned(),
            other => other.to_string(),
        };
        Self::new(format!("found {found}, expected {wanted}"), hint.to_owned())
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let hint = match nearest(field, expected) {
            Some(name) => format!("did you mean `{name}`?"),
            None if expected.is_empty() => "no fields are known here; remove it".to_owned(),
            None => format!("known here: {}", expected.join(", ")),
        };
        Self::new(format!("unknown field `{field}`"), hint)
    }
}

const WHOLE_NUMBER: &str = "a whole number";

/// serde names what it expects in terms of Rust.
fn in_yaml_terms(expected: &dyn Expected) -> String {
    match expected.to_string() {
        text if text.starts_with("struct ") || text == "a map" => "a mapping".to_owned(),
        text if text == "a sequence" => "a list".to_owned(),
        text if text == "i64" => WHOLE_NUMBER.to_owned(),
        text => text,
    }
}

pub(super) struct NodeDeserializer<'a>(pub &'a Node);

impl<'de> Deserializer<'de> for NodeDeserializer<'_> {
    type Error = ShapeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        match &self.0.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Int(value) => match (i64::try_from(*value), u64::try_from(*value)) {
                (Ok(signed), _) => visitor.visit_i64(signed),
                (_, Ok(unsigned)) => visitor.visit_u64(unsigned),
                _ => visitor.visit_i128(*value),
            },
            Value::Float(value) => visitor.visit_f64(*value),
            Value::String(value) => visitor.visit_str(value),
            Value::Seq(items) => visitor.visit_seq(Items { items, next: 0 }),
            Value::Map(entries) => visitor.visit_map(Entries { entries, next: 0 }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        match self.0.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    /// serde would take a list for a struct too, its elements for the fields in order.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ShapeError> {
        match self.0.value {
            Value::Seq(_) => Err(de::Error::invalid_type(Unexpected::Seq, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier
    }
}

struct Items<'a> {
    items: &'a [Item],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = ShapeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ShapeError> {
        let Some(item) = self.items.get(self.next) else { return Ok(None) };
        let position = self.next;
        self.next += 1;
        seed.deserialize(NodeDeserializer(&item.node))
            .map(Some)
            .map_err(|error| error.below(position))
    }
}

struct Entries<'a> {
    entries: &'a [Entry],
    next: usize,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = ShapeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ShapeError> {
        let Some(entry) = self.entries.get(self.next) else { return Ok(None) };
        let position = self.next;
        self.next += 1;
        let key: StrDeserializer<'_, ShapeError> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|mut error| {
            error.at_key = true;
            error.below(position)
        })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, ShapeError> {
        let position = self.next.saturating_sub(1);
        let Some(entry) = self.entries.get(position) else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        seed.deserialize(NodeDeserializer(&entry.node)).map_err(|error| error.below(position))
    }
}
