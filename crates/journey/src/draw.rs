//! A journey's graph for other tools: Graphviz and Mermaid.

use crate::counts::VersionCounts;
use crate::definition::Definition;
use std::fmt::Write as _;

/// A language of graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drawing {
    /// Graphviz.
    Dot,
    /// Mermaid.
    Mermaid,
}

/// The journey's graph: its start, steps and ends with the ways between them, and what ends it from anywhere.
#[must_use]
pub fn draw(definition: &Definition, drawing: Drawing) -> String {
    let (nodes, edges) = VersionCounts::default().graph(definition);
    let mut page = Page {
        drawing,
        text: match drawing {
            Drawing::Dot => format!(
                "digraph \"{}\" {{\n  node [shape=box, style=rounded];\n",
                definition.name
            ),
            Drawing::Mermaid => "flowchart TD\n".to_owned(),
        },
    };
    for node in &nodes {
        let round = definition.step(&node.id).is_none();
        let label = if round {
            node.title.clone()
        } else {
            format!("{}: {}", node.kind, node.title)
        };
        page.node(&node.id, &label, round);
    }
    for edge in &edges {
        page.edge(&edge.from, &edge.to, &edge.label, false);
    }
    if !definition.exits.is_empty() {
        page.node("anywhere", "From anywhere", true);
    }
    for exit in &definition.exits {
        let id = format!("exit {}", exit.id);
        page.node(&id, &exit.title, true);
        page.edge("anywhere", &id, "", true);
    }
    if drawing == Drawing::Dot {
        page.text.push_str("}\n");
    }
    page.text
}

struct Page {
    drawing: Drawing,
    text: String,
}

impl Page {
    fn node(&mut self, id: &str, label: &str, round: bool) {
        let _ = match self.drawing {
            Drawing::Dot => {
                let shape = if round { ", shape=oval" } else { "" };
                writeln!(self.text, "  \"{id}\" [label=\"{}\"{shape}];", dot(label))
            }
            Drawing::Mermaid => {
                let (open, close) = if round { ("([", "])") } else { ("[", "]") };
                writeln!(
                    self.text,
                    "  {}{open}\"{}\"{close}",
                    name(id),
                    mermaid(label)
                )
            }
        };
    }

    fn edge(&mut self, from: &str, to: &str, label: &str, dashed: bool) {
        let _ = match self.drawing {
            Drawing::Dot => {
                let style = if dashed { ", style=dashed" } else { "" };
                let label = dot(label);
                writeln!(
                    self.text,
                    "  \"{from}\" -> \"{to}\" [label=\"{label}\"{style}];"
                )
            }
            Drawing::Mermaid => {
                let arrow = if dashed { "-.->" } else { "-->" };
                let label = if label.is_empty() {
                    String::new()
                } else {
                    format!("|\"{}\"|", mermaid(label))
                };
                writeln!(self.text, "  {} {arrow}{label} {}", name(from), name(to))
            }
        };
    }
}

fn dot(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"")
}

/// Mermaid takes quotes as entities only.
fn mermaid(label: &str) -> String {
    label.replace('"', "#quot;")
}

/// `end` and others are words of Mermaid's own.
fn name(id: &str) -> String {
    format!("n_{}", id.replace(' ', "_"))
}
