//! Proof that a policy allows a connection. Forwarding functions ask for it, and only a decision
//! of the policy engine makes one: bytes cannot flow on a path where the question was forgotten.

use clgw_policy::{ClientId, Decision, ExportId, ImportId, PolicyId, PolicyTable, Tier, Verdict};

/// One allowed connection.
#[derive(Debug)]
pub struct Permit {
    policy: PolicyId,
    generation: u64,
    dry_run: Option<PolicyId>,
}

/// One refused connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The deciding policy, or what stands for it ([`PolicyId::fixed_text`]).
    pub policy: PolicyId,
    pub tier: Tier,
    /// The dry-run policy that would have allowed it.
    pub dry_run: Option<PolicyId>,
}

impl Permit {
    /// The importer's decision for one source of an import.
    ///
    /// # Errors
    /// The deciding policy when it is not "allow".
    pub fn egress(
        table: &PolicyTable,
        import: ImportId,
        source: usize,
        client: ClientId,
    ) -> Result<Self, Denial> {
        Self::from_decision(table.decide_egress(import, source, client))
    }

    /// The exporter's decision; `attributes` are those the importer sent.
    ///
    /// # Errors
    /// The deciding policy when it is not "allow".
    pub fn ingress<'a>(
        table: &PolicyTable,
        export: ExportId,
        attributes: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Result<Self, Denial> {
        Self::from_decision(table.decide_ingress(export, attributes))
    }

    fn from_decision(decision: Decision<'_>) -> Result<Self, Denial> {
        let Decision { id: policy, tier, generation, dry_run_match: dry_run, .. } = decision;
        match decision.verdict {
            Verdict::Allow => Ok(Self { policy, generation, dry_run }),
            Verdict::Deny => Err(Denial { policy, tier, dry_run }),
        }
    }

    /// The policy that allowed it.
    pub fn policy(&self) -> PolicyId {
        self.policy
    }

    /// The dry-run policy that would have denied it.
    pub fn dry_run(&self) -> Option<PolicyId> {
        self.dry_run
    }

    /// Generation of the table that decided.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}
