//! ClusterLink objects of a site where everybody may use every service.

const NAMESPACE: &str = "bench";

#[derive(Clone, Debug)]
pub struct Objects(Vec<String>);

impl Objects {
    /// The other site, with addresses of its gateways, and the policy.
    pub fn new(peer: &str, gateways: &[&str]) -> Self {
        let gateways: Vec<_> =
            gateways.iter().map(|host| format!("{{ host: {host}, port: 4443 }}")).collect();
        let mut objects = Self(Vec::new());
        objects.push(
            "Peer",
            peer,
            "clusterlink-system",
            &format!("gateways: [{}]", gateways.join(", ")),
        );
        let all = "[{ workloadSelector: {} }]";
        let policy = format!("action: allow, from: {all}, to: {all}");
        objects.push("AccessPolicy", "allow-all", NAMESPACE, &policy);
        objects
    }

    /// A service of the other site, at a port here.
    pub fn import(&mut self, name: &str, port: u16, peer: &str) {
        let source =
            format!("{{ peer: {peer}, exportName: {name}, exportNamespace: {NAMESPACE} }}");
        self.push("Import", name, NAMESPACE, &format!("port: {port}, sources: [{source}]"));
    }

    /// A service of this site.
    pub fn export(&mut self, name: &str, host: &str, port: u16) {
        self.push("Export", name, NAMESPACE, &format!("host: {host}, port: {port}"));
    }

    fn push(&mut self, kind: &str, name: &str, namespace: &str, spec: &str) {
        self.0.push(format!(
            "apiVersion: clusterlink.net/v1alpha1\nkind: {kind}\n\
             metadata: {{ name: {name}, namespace: {namespace} }}\nspec: {{ {spec} }}\n"
        ));
    }

    pub fn into_text(self) -> String {
        self.0.join("---\n")
    }
}
