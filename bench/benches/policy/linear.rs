//! The straightforward evaluator: one policy after the other in the order in which they decide,
//! attributes as maps of texts. What one would write first, and the baseline.

use clgw_policy::attributes::{self, Attributes};
use clgw_policy::{AccessPolicy, Action, ImportId};

use super::questions::{Egress, Ingress, Site};

pub struct Linear<'s> {
    site: &'s Site,
    policies: Vec<&'s AccessPolicy>,
    clients: Vec<(std::net::IpAddr, Attributes)>,
    imports: Vec<Vec<(&'s str, Attributes)>>,
    exports: Vec<(&'s str, Attributes)>,
}

impl<'s> Linear<'s> {
    /// Everything that does not depend on the policies is looked up beforehand.
    pub fn new(site: &'s Site) -> Self {
        let mut policies: Vec<_> = site.fabric.policies().collect();
        policies.sort_by_key(|p| (!p.name.is_privileged(), p.action == Action::Allow));
        let mut clients: Vec<_> = site
            .fabric
            .workloads()
            .map(|w| (w.addresses[0].addr(), attributes::source(&site.local, w)))
            .collect();
        clients.sort_by_key(|(address, _)| *address);
        let imports = site
            .fabric
            .imports()
            .map(|import| {
                let to = |source| attributes::egress_destination(import, source, None);
                import.sources.iter().map(|s| (&*import.name.namespace, to(s))).collect()
            })
            .collect();
        let exports = site
            .fabric
            .exports()
            .map(|e| (&*e.name.namespace, attributes::ingress_destination(&site.local, e)))
            .collect();
        Self { site, policies, clients, imports, exports }
    }

    pub fn egress(&self, question: &Egress) -> bool {
        let ImportId(import) = question.import;
        let (namespace, to) = &self.imports[import as usize][question.source];
        let at = self.clients.binary_search_by_key(&question.address, |(address, _)| *address);
        let (_, from) = &self.clients[at.expect("every client has an address")];
        self.decide(namespace, from, to)
    }

    pub fn ingress(&self, question: &Ingress) -> bool {
        let (namespace, to) = &self.exports[question.export.index()];
        let from: Attributes =
            question.attributes.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        self.decide(namespace, &from, to)
    }

    fn decide(&self, namespace: &str, from: &Attributes, to: &Attributes) -> bool {
        debug_assert!(self.site.fabric.policies().len() == self.policies.len());
        self.policies
            .iter()
            .find(|policy| {
                policy.name.namespace.as_deref().is_none_or(|own| own == namespace)
                    && policy.from.iter().any(|selector| selector.matches(from))
                    && policy.to.iter().any(|selector| selector.matches(to))
            })
            .is_some_and(|policy| policy.action == Action::Allow)
    }
}
