//! The demonstration's workflows: how each is created, and what must come of it.

/// How a workflow is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum With {
    KubectlCreate,
    ArgoSubmitWait,
}

/// One workflow, and what is expected of it.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// What it shows, in a few words; also its name in tests.
    pub name: &'static str,
    pub manifest: &'static str,
    pub namespace: &'static str,
    pub with: With,
    /// The cluster that its pods run in; `None`: the control cluster, with nothing of Argosy's on it.
    pub cluster: Option<&'static str>,
    /// Its phase at the end.
    pub phase: &'static str,
    /// What its message at the end contains.
    pub message: &'static str,
    /// The phases that its nodes may show on the original while it runs.
    pub node_phases: &'static [&'static str],
    /// An input parameter that a node must have got.
    pub input: Option<(&'static str, &'static str)>,
    /// An artifact that argo-server in the control cluster must serve: the node, its name, and what it contains.
    pub artifact: Option<(&'static str, &'static str, &'static str)>,
    /// How many pods it makes.
    pub pods: usize,
}

/// The namespace with a rule: the first cluster by name that can take it.
pub const RULED: &str = "demo";
/// A namespace without one.
pub const PLAIN: &str = "plain";
/// The article's namespace, without a rule.
pub const ARTICLE: &str = "argo";

const FINE: &[&str] = &["Pending", "Running", "Succeeded"];

/// All of them; with a place for artifacts, too.
pub fn scenarios(with_artifacts: bool) -> Vec<Scenario> {
    let fine = Scenario {
        name: "",
        manifest: include_str!("workflows/hello-world.yaml"),
        namespace: RULED,
        with: With::KubectlCreate,
        cluster: Some("cluster1"),
        phase: "Succeeded",
        message: "",
        node_phases: FINE,
        input: None,
        artifact: None,
        pods: 1,
    };
    let stored = Scenario {
        name: "an artifact, read by the next step and served here",
        manifest: include_str!("workflows/artifact.yaml"),
        artifact: Some(("paint", "picture", "< ahoy >")),
        pods: 2,
        ..fine.clone()
    };
    let mut all = vec![
        Scenario { name: "hello-world by kubectl create", ..fine.clone() },
        Scenario { name: "hello-world by argo submit --wait", with: With::ArgoSubmitWait, ..fine.clone() },
        Scenario { name: "a diamond DAG", manifest: include_str!("workflows/diamond.yaml"), pods: 4, ..fine.clone() },
        Scenario {
            name: "an output parameter passed on",
            manifest: include_str!("workflows/output-parameter.yaml"),
            input: Some(("message", "ahoy")),
            pods: 2,
            ..fine.clone()
        },
        Scenario { name: "a step of 30 s", manifest: include_str!("workflows/long-step.yaml"), ..fine.clone() },
        Scenario {
            name: "the article's workflow, with its own label",
            manifest: include_str!("workflows/article.yaml"),
            namespace: ARTICLE,
            ..fine.clone()
        },
        Scenario { name: "no rule: runs here", namespace: PLAIN, cluster: None, ..fine.clone() },
        Scenario {
            name: "a failing step",
            manifest: include_str!("workflows/failing.yaml"),
            phase: "Failed",
            message: "exit code 3",
            node_phases: &["Pending", "Running", "Failed"],
            ..fine
        },
    ];
    all.extend(Some(stored).filter(|_| with_artifacts));
    all
}
