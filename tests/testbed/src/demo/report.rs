//! The report at the end of the demonstration.

use comfy_table::presets::UTF8_FULL;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table};

use super::scenario::{Scenario, With};
use super::{Outcome, Ran};

/// The report as a table for a terminal.
pub fn render(outcomes: &[(Scenario, Outcome)]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL).set_content_arrangement(ContentArrangement::Dynamic);
    if !table.is_tty() {
        table.set_width(180);
    }
    let bold = |text: &str| Cell::new(text).add_attribute(Attribute::Bold);
    table.set_header(["what it shows", "created in", "placed", "why", "pods ran on", "seen on the original"].map(bold));
    for (scenario, outcome) in outcomes {
        table.add_row(match outcome {
            Outcome::Ran(ran) => ran_row(scenario, ran),
            Outcome::Failed(error) => vec![
                Cell::new(scenario.name),
                Cell::new(created(scenario, "")),
                Cell::new(""),
                Cell::new(""),
                Cell::new(""),
                Cell::new(format!("✗ {error}")).fg(Color::Red),
            ],
        });
    }
    table.to_string()
}

fn ran_row(scenario: &Scenario, ran: &Ran) -> Vec<Cell> {
    let observed = &ran.observed;
    let (placed, why) = match &observed.placement {
        Some(placement) => (placement.cluster.clone(), placement.reason.clone()),
        None => ("here".to_owned(), "namespace without a rule, workflow without a label".to_owned()),
    };
    let mut story = observed.story();
    if !observed.message.is_empty() {
        story = format!("{story}\n{}", observed.message);
    }
    if let Some(log) = &ran.log {
        story = format!("{story}\nkubectl logs: {log}");
    }
    if let (Some(size), Some((_, name, _))) = (ran.served, scenario.artifact) {
        story = format!("{story}\nargo-server: artifact {name:?}, {size} bytes");
    }
    let (mark, colour) = match &ran.difference {
        None => ("✓", Color::Green),
        Some(_) => ("✗", Color::Red),
    };
    if let Some(difference) = &ran.difference {
        story = format!("{story}\nnot as expected: {difference}");
    }
    let hosts = observed.hosts.iter().cloned().collect::<Vec<_>>().join(", ");
    vec![
        Cell::new(scenario.name),
        Cell::new(created(scenario, &observed.name)),
        Cell::new(placed),
        Cell::new(why),
        Cell::new(format!("{hosts} ({} pod{})", ran.pods, if ran.pods == 1 { "" } else { "s" })),
        Cell::new(format!("{mark} {story}")).fg(colour),
    ]
}

fn created(scenario: &Scenario, name: &str) -> String {
    let with = match scenario.with {
        With::KubectlCreate => "kubectl create",
        With::ArgoSubmitWait => "argo submit --wait",
    };
    format!("control, namespace {}\n{with}\n{name}", scenario.namespace).trim_end().to_owned()
}
