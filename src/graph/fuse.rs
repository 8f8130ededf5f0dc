//! Joins operators, rule by rule. Each rule looks at one node, the last of its pattern, and turns it into one operator that computes the same;
//! what led there is swept when nobody else reads it.

mod activation;
mod attention;
mod conv;
mod gated;
mod linear;
mod norm;
mod tidy;

use super::net::{Content, Net, Node, Value, ValueId};
use super::op::Op;

/// What a rule makes of a node.
pub(crate) enum Rewrite {
    /// Another operator on other operands.
    Node(Op, Vec<Option<ValueId>>),
    /// The same, with operands of which the last two of three axes are exchanged first. With `result`, the last two of the result are exchanged too,
    /// which then has this shape, before it is seen in that of the node.
    Turned { op: Op, inputs: Vec<Option<ValueId>>, turned: Vec<usize>, result: Option<[usize; 3]> },
    /// Nothing: its readers read this value instead.
    Alias(ValueId),
}

/// A rule and its name, by which it is switched off and counted.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    apply: fn(&Site, &Node) -> Option<Rewrite>,
}

/// All rules, in the order in which they are tried.
pub(crate) const RULES: &[Rule] = &[
    Rule { name: "tidy", apply: tidy::rule },
    Rule { name: "silu", apply: activation::silu },
    Rule { name: "gelu", apply: activation::gelu },
    Rule { name: "gelu-tanh", apply: activation::gelu_tanh },
    Rule { name: "layer-norm", apply: norm::layer },
    Rule { name: "rms-norm", apply: norm::rms },
    Rule { name: "group-norm", apply: norm::group },
    Rule { name: "group-norm-affine", apply: norm::affine },
    Rule { name: "modulation", apply: norm::modulated },
    Rule { name: "norm-activation", apply: norm::activated },
    Rule { name: "attention", apply: attention::rule },
    Rule { name: "attention-single", apply: attention::single },
    Rule { name: "gated", apply: gated::rule },
    Rule { name: "upsample-conv", apply: conv::upsampled },
    Rule { name: "conv-row", apply: conv::row },
    Rule { name: "conv-activation", apply: conv::activated },
    Rule { name: "conv-residual", apply: conv::residual },
    Rule { name: "linear", apply: linear::rule },
    Rule { name: "linear-bias", apply: linear::bias },
    Rule { name: "linear-activation", apply: linear::activated },
    Rule { name: "linear-residual", apply: linear::residual },
];

/// Applies the rules that `wanted` accepts by name, and says how often each matched.
pub(crate) fn fuse(net: &mut Net, wanted: impl Fn(&str) -> bool) -> Vec<(&'static str, usize)> {
    RULES.iter().filter(|rule| wanted(rule.name)).map(|rule| (rule.name, apply(net, rule))).collect()
}

fn apply(net: &mut Net, rule: &Rule) -> usize {
    let mut matches = 0;
    let mut makers = makers(net);
    let mut readers = readers(net);
    let mut next = 0;
    while next < net.nodes.len() {
        let index = next;
        next += 1;
        let site = Site { net, makers: &makers, readers: &readers };
        let Some(rewrite) = (rule.apply)(&site, &net.nodes[index]) else { continue };
        matches += 1;
        match rewrite {
            Rewrite::Node(op, inputs) => {
                let node = &mut net.nodes[index];
                node.inputs.iter().flatten().for_each(|&id| readers[id] -= 1);
                inputs.iter().flatten().for_each(|&id| readers[id] += 1);
                (node.op, node.inputs) = (op, inputs);
            }
            Rewrite::Turned { op, inputs, turned, result } => {
                next += turn(net, index, op, inputs, &turned, result);
                (makers, readers) = (self::makers(net), self::readers(net));
            }
            Rewrite::Alias(to) => {
                let from = net.nodes[index].output;
                redirect(net, from, to);
                readers[to] += readers[from];
                readers[from] = 0;
                makers[from] = None;
            }
        }
    }
    net.sweep();
    matches
}

/// Makes [`Rewrite::Turned`] of the node at `index`; says how many nodes were put before it.
fn turn(
    net: &mut Net,
    index: usize,
    op: Op,
    mut inputs: Vec<Option<ValueId>>,
    turned: &[usize],
    result: Option<[usize; 3]>,
) -> usize {
    let exchange = Op::Transpose(vec![0, 2, 1]);
    let mut before = Vec::new();
    for &operand in turned {
        let Some(id) = inputs[operand] else { continue };
        let &[a, b, c] = net.shape(id) else { continue };
        let output = between(net, index, [a, c, b], id);
        before.push(Node { op: exchange.clone(), inputs: vec![Some(id)], output, ..net.nodes[index].clone() });
        inputs[operand] = Some(output);
    }
    let mut last = (op, inputs);
    if let Some([a, b, c]) = result {
        let inner = between(net, index, [a, c, b], net.nodes[index].output);
        before.push(Node { op: last.0, inputs: last.1, output: inner, ..net.nodes[index].clone() });
        last = (exchange, vec![Some(inner)]);
        if net.shape(net.nodes[index].output) != [a, b, c] {
            let whole = between(net, index, [a, b, c], net.nodes[index].output);
            before.push(Node { op: last.0, inputs: last.1, output: whole, ..net.nodes[index].clone() });
            last = (Op::Reshape, vec![Some(whole)]);
        }
    }
    (net.nodes[index].op, net.nodes[index].inputs) = last;
    let count = before.len();
    net.nodes.splice(index..index, before);
    count
}

/// A value of the type of `like` on the way to what the node at `index` gives.
fn between(net: &mut Net, index: usize, shape: [usize; 3], like: ValueId) -> ValueId {
    let name = format!("{}.{}", net.nodes[index].name, net.values.len());
    net.add(Value { name, shape: shape.to_vec(), dtype: net.values[like].dtype, content: Content::Computed })
}

fn redirect(net: &mut Net, from: ValueId, to: ValueId) {
    let operands = net.nodes.iter_mut().flat_map(|node| &mut node.inputs).flatten();
    operands.chain(&mut net.outputs).filter(|id| **id == from).for_each(|id| *id = to);
}

fn makers(net: &Net) -> Vec<Option<usize>> {
    let mut makers = vec![None; net.values.len()];
    net.nodes.iter().enumerate().for_each(|(index, node)| makers[node.output] = Some(index));
    makers
}

fn readers(net: &Net) -> Vec<usize> {
    let mut readers = vec![0; net.values.len()];
    let operands = net.nodes.iter().flat_map(|node| node.inputs.iter().flatten());
    operands.chain(&net.outputs).for_each(|&id| readers[id] += 1);
    readers
}

/// Where a rule looks around.
pub(crate) struct Site<'a> {
    pub(crate) net: &'a Net,
    makers: &'a [Option<usize>],
    readers: &'a [usize],
}

impl<'a> Site<'a> {
    /// The node that makes a value.
    fn maker(&self, id: ValueId) -> Option<&'a Node> {
        self.makers[id].map(|index| &self.net.nodes[index])
    }

    /// The node that makes a value which nobody else reads.
    fn only(&self, id: ValueId) -> Option<&'a Node> {
        self.maker(id).filter(|_| self.readers[id] == 1)
    }

    fn shape(&self, id: ValueId) -> &'a [usize] {
        self.net.shape(id)
    }

    /// The one number of a constant.
    fn scalar(&self, id: ValueId) -> Option<f32> {
        self.net.scalar(id)
    }

    /// Whether it is the constant `value`, up to the last bits.
    fn is(&self, id: ValueId, value: f32) -> bool {
        self.scalar(id).is_some_and(|found| (found - value).abs() <= 1e-5 * value.abs())
    }

    /// A two-operand node's operands, either way round, of which the second is a constant number.
    fn with_scalar(&self, node: &Node) -> Option<(ValueId, f32)> {
        let (a, b) = (node.input(0)?, node.input(1)?);
        match (self.scalar(b), self.scalar(a)) {
            (Some(number), _) => Some((a, number)),
            (_, Some(number)) => Some((b, number)),
            _ => None,
        }
    }

    /// Whether a value is a constant vector along one axis of `rank`, counted from behind, and of that length.
    fn is_vector(&self, id: ValueId, from_behind: usize, length: usize) -> bool {
        let shape = self.shape(id);
        let along = shape.len().checked_sub(from_behind + 1);
        self.net.is_fixed(id)
            && along.is_some_and(|along| {
                shape.iter().enumerate().all(|(axis, l)| *l == if axis == along { length } else { 1 })
            })
    }
}

/// Both orders of two operands.
fn both(node: &Node) -> impl Iterator<Item = (ValueId, ValueId)> {
    let pair = node.input(0).zip(node.input(1));
    pair.into_iter().flat_map(|(a, b)| [(a, b), (b, a)])
}

/// `inputs` with `id` at `index`, where nothing stands yet.
fn with_input(inputs: &[Option<ValueId>], index: usize, id: ValueId) -> Option<Vec<Option<ValueId>>> {
    let mut inputs = inputs.to_vec();
    inputs.resize(inputs.len().max(index + 1), None);
    match inputs[index].replace(id) {
        None => Some(inputs),
        Some(_) => None,
    }
}

/// Whether nothing stands at `index` or behind.
fn free_from(node: &Node, index: usize) -> bool {
    node.inputs.iter().skip(index).all(Option::is_none)
}

/// Whether a value is computed anew in each run.
fn computed(site: &Site, id: ValueId) -> bool {
    matches!(site.net.values[id].content, Content::Computed)
}

#[cfg(test)]
mod tests;
