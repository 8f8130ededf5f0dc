//! Values inside a graph as further outputs, for whoever looks for a fault.

use super::{Graph, Port};
use crate::error::{Error, ErrorKind, Result, fail};
use std::collections::HashSet;
use tract_onnx::pb::ValueInfoProto;

/// Names that a message proposes, at most.
const PROPOSED: usize = 5;

impl Graph {
    /// The values that `name` means: the value of this name, else all that the node of this name makes.
    ///
    /// # Errors
    /// `Invalid` when the graph has neither, with names that are near.
    pub fn values_of(&self, name: &str) -> Result<Vec<String>> {
        let made = || self.nodes().iter().flat_map(|node| &node.output).filter(|value| !value.is_empty());
        if made().any(|value| value == name) {
            return Ok(vec![name.to_owned()]);
        }
        match self.nodes().iter().find(|node| node.name == name && !name.is_empty()) {
            Some(node) => Ok(node.output.iter().filter(|value| !value.is_empty()).cloned().collect()),
            None => Err(self.unknown(name).in_file(&self.file)),
        }
    }

    fn unknown(&self, name: &str) -> Error {
        let error = Error::new(ErrorKind::Invalid, format!("has no node and no value \"{name}\""));
        let names = self.nodes().iter().flat_map(|node| std::iter::once(&node.name).chain(&node.output));
        let near: Vec<&str> = names.map(String::as_str).filter(|known| known.contains(name)).take(PROPOSED).collect();
        if near.is_empty() {
            return error.advise("`undiffuse inspect --plan` prints the names");
        }
        error.advise(format!("there are {}", near.join(", ")))
    }

    /// Gives the values of these names as further outputs, behind the graph's own, for inputs of `shapes` (in the order of
    /// [`Graph::inputs`]). What is an output already stays where it is.
    ///
    /// # Errors
    /// `Engine` for a value whose shape or type is not known, and what reading the graph gives.
    pub fn watch(&mut self, names: &[String], shapes: &[Vec<usize>]) -> Result<()> {
        let facts = self.facts(shapes)?;
        let mut given: HashSet<String> = self.outputs.iter().map(|port| port.name.clone()).collect();
        for name in names {
            if !given.insert(name.clone()) {
                continue;
            }
            let Some(fact) = facts.get(name) else {
                return fail!(Engine, "the shape or type of this value is not known")
                    .map_err(|error: Error| error.in_field(name).in_file(&self.file));
            };
            let declared = fact.dtype.name().to_owned();
            self.outputs.push(Port { name: name.clone(), dtype: fact.dtype, declared, shape: None });
            if let Some(graph) = &mut self.model.graph {
                graph.output.push(ValueInfoProto { name: name.clone(), ..ValueInfoProto::default() });
            }
        }
        Ok(())
    }

    /// The names that [`Graph::watch`] added.
    pub(crate) fn watched(&self) -> Vec<String> {
        self.outputs[self.own_outputs..].iter().map(|port| port.name.clone()).collect()
    }
}
