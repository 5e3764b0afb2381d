//! Wrappers of providers: how the crate reaches the provider inside.

use std::any::{Any, type_name};
use std::fmt;
use std::sync::Arc;

use super::Provider;

/// How deep the crate looks into wrappers. A wrapper that names itself as the inner provider would
/// never end.
const DEEPEST: usize = 16;

/// A provider inside another: the result of [`Provider::wrapped`].
#[doc = include_str!("wrapper.md")]
#[derive(Clone)]
pub struct Wrapped(Arc<dyn AnyProvider>);

impl Wrapped {
    /// Names this provider as the inner one. It may be a wrapper itself.
    #[must_use]
    pub fn new<P: Provider>(provider: Arc<P>) -> Self {
        Self(provider)
    }

    /// The first `P` among this provider and those inside it.
    pub(crate) fn find<P: Provider>(self) -> Option<Arc<P>> {
        let mut provider = self.0;
        for _ in 0..DEEPEST {
            if let Ok(found) = Arc::clone(&provider).into_any().downcast() {
                return Some(found);
            }
            provider = provider.wrapped()?.0;
        }
        None
    }
}

impl fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wrapped").field(&self.0.type_name()).finish()
    }
}

/// A provider of any type.
trait AnyProvider: Send + Sync {
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    fn wrapped(&self) -> Option<Wrapped>;
    fn type_name(&self) -> &'static str;
}

impl<P: Provider> AnyProvider for P {
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn wrapped(&self) -> Option<Wrapped> {
        Provider::wrapped(self)
    }

    fn type_name(&self) -> &'static str {
        type_name::<P>()
    }
}
