//! Label selectors with Kubernetes' semantics.
//!
//! All requirements must hold; none at all hold for everything, even for no attributes. `In` and
//! `Exists` need the key; `NotIn` and `DoesNotExist` hold when it is absent.

use std::fmt;

use thiserror::Error;

use crate::attributes::Attributes;
use crate::names;

/// How a requirement compares the value of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl Operator {
    /// All four, in Kubernetes' order.
    pub const ALL: [Self; 4] = [Self::In, Self::NotIn, Self::Exists, Self::DoesNotExist];

    /// The word in YAML.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::In => "In",
            Self::NotIn => "NotIn",
            Self::Exists => "Exists",
            Self::DoesNotExist => "DoesNotExist",
        }
    }

    /// The operator of this exact name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operator| operator.as_str() == text)
    }

    /// Whether `values` must be given; where not, they must be empty.
    #[must_use]
    pub fn takes_values(self) -> bool {
        matches!(self, Self::In | Self::NotIn)
    }
}

/// Why a requirement is no valid selector requirement.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SelectorError {
    #[error("the selector key `{key}` {why}")]
    Key { key: String, why: String },
    #[error("the value `{value}` for the selector key `{key}` {why}")]
    Value { key: String, value: String, why: String },
    #[error("operator {operator} on the selector key `{key}` needs at least one value")]
    ValuesMissing { key: String, operator: &'static str },
    #[error(
        "operator {operator} on the selector key `{key}` takes no values, but {count} are given"
    )]
    ValuesNotAllowed { key: String, operator: &'static str, count: usize },
}

/// One condition on one attribute. Always valid: made by [`Requirement::new`] only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    key: Box<str>,
    operator: Operator,
    /// Sorted, without repetition.
    values: Box<[Box<str>]>,
}

impl Requirement {
    /// Checks and stores one requirement.
    ///
    /// # Errors
    /// When the key or a value is no valid label key or value, or `values` does not go with the
    /// operator.
    pub fn new<'a>(
        key: &str,
        operator: Operator,
        values: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, SelectorError> {
        names::attribute_key(key).map_err(|why| SelectorError::Key { key: key.to_owned(), why })?;
        let mut values: Vec<Box<str>> = values.into_iter().map(Into::into).collect();
        for value in &values {
            names::attribute_value(value).map_err(|why| SelectorError::Value {
                key: key.to_owned(),
                value: value.to_string(),
                why,
            })?;
        }
        if operator.takes_values() && values.is_empty() {
            return Err(SelectorError::ValuesMissing {
                key: key.to_owned(),
                operator: operator.as_str(),
            });
        }
        if !operator.takes_values() && !values.is_empty() {
            return Err(SelectorError::ValuesNotAllowed {
                key: key.to_owned(),
                operator: operator.as_str(),
                count: values.len(),
            });
        }
        values.sort();
        values.dedup();
        Ok(Self { key: key.into(), operator, values: values.into() })
    }

    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    #[must_use]
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// Sorted, without repetition.
    #[must_use]
    pub fn values(&self) -> &[Box<str>] {
        &self.values
    }

    /// Whether an object whose value for the key is `value` fulfils this.
    #[must_use]
    pub fn holds(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|allowed| **allowed == *value);
        match self.operator {
            Operator::In => value.is_some_and(listed),
            Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

impl fmt::Display for Requirement {
    /// `key In [a, b]`; operators without values stand alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, self.operator.as_str())?;
        if self.operator.takes_values() {
            write!(f, " [{}]", self.values.join(", "))?;
        }
        Ok(())
    }
}

/// A conjunction of requirements.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    requirements: Box<[Requirement]>,
}

impl Selector {
    /// A selector of these requirements; none make the selector that matches everything.
    #[must_use]
    pub fn new(requirements: impl IntoIterator<Item = Requirement>) -> Self {
        let mut requirements: Vec<_> = requirements.into_iter().collect();
        requirements.sort();
        requirements.dedup();
        Self { requirements: requirements.into() }
    }

    /// The selector `{}`.
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    /// `matchLabels`: every key has exactly this value.
    ///
    /// # Errors
    /// See [`Requirement::new`].
    pub fn labels<'a>(
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, SelectorError> {
        let requirements: Result<Vec<_>, _> = labels
            .into_iter()
            .map(|(key, value)| Requirement::new(key, Operator::In, [value]))
            .collect();
        Ok(Self::new(requirements?))
    }

    /// Sorted, without repetition.
    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether all requirements hold for these attributes.
    #[must_use]
    pub fn matches(&self, attributes: &Attributes) -> bool {
        self.requirements
            .iter()
            .all(|requirement| requirement.holds(attributes.get(requirement.key()).map(|v| &**v)))
    }
}

impl fmt::Display for Selector {
    /// The requirements with `and` between them; `everything` without any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.requirements.is_empty() {
            return f.write_str("everything");
        }
        for (index, requirement) in self.requirements.iter().enumerate() {
            let and = if index > 0 { " and " } else { "" };
            write!(f, "{and}{requirement}")?;
        }
        Ok(())
    }
}
