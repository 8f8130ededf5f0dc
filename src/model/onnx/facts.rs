//! What tract infers about every value of a graph: type, shape and, where it follows from constants, content. No weight is read for it.

use super::Graph;
use super::translate::{announce, concretise, foreign, mute_opset_warning};
use crate::caught::catch;
use crate::error::{Error, Result, fail};
use crate::model::weights::{MOST_ELEMENTS, Weight};
use crate::value::{DType, Data, Tensor};
use std::collections::{HashMap, HashSet};
use tract_onnx::prelude::{DatumType, IntoArcTensor};
use tract_onnx::tract_hir::infer::{Factoid, InferenceFact, InferenceModel, InferenceModelExt, InferenceOp};
use tract_onnx::tract_hir::ops::konst::Const;

/// Constants of at most this many elements, and all that are no floats, take part in tract's folding; larger ones are weights.
const SMALL: usize = 8192;

/// What is known about one value.
#[derive(Debug, Clone)]
pub(crate) struct Fact {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    pub(crate) content: Option<Tensor>,
}

impl Weight {
    /// Whether it is a constant to be folded rather than a weight to be left in the file.
    pub(crate) fn is_small(&self) -> bool {
        self.elements() <= SMALL || !self.is_float()
    }
}

impl Graph {
    /// Facts by value name, for inputs of `shapes` (in the order of [`Graph::inputs`]).
    ///
    /// # Errors
    /// `Engine` with tract's own words when it cannot read the graph, panics at it, or leaves a shape open; `Malformed` when a value gets
    /// absurd dimensions.
    pub(crate) fn facts(&self, shapes: &[Vec<usize>]) -> Result<HashMap<String, Fact>> {
        catch("tract", "reading the graph", || self.inferred(shapes)).map_err(|error| error.in_file(&self.file))
    }

    fn inferred(&self, shapes: &[Vec<usize>]) -> Result<HashMap<String, Fact>> {
        let mut proto = self.model.clone();
        mute_opset_warning(&mut proto);
        announce(&mut proto, &self.weights);
        let parsed = tract_onnx::onnx().with_ignore_value_info(true).parse(&proto, None).map_err(foreign)?;
        drop(proto);
        let mut model = parsed.model;
        self.settle_constants(&mut model)?;
        let dtypes: Vec<DType> = self.inputs.iter().map(|port| port.dtype).collect();
        concretise(&mut model, &dtypes, shapes)?;
        model.analyse(false).map_err(foreign)?;
        let weights: HashSet<&str> =
            self.weights.iter().filter(|weight| !weight.is_small()).map(|weight| weight.name.as_str()).collect();
        let mut facts = HashMap::new();
        for (outlet, name) in &model.outlet_labels {
            collect(&model, outlet.node, outlet.slot, name, &mut facts)?;
        }
        for node in model.nodes().iter().filter(|node| !weights.contains(node.name.as_str())) {
            if node.inputs.is_empty() && !facts.contains_key(&node.name) {
                collect(&model, node.id, 0, &node.name, &mut facts)?;
            }
        }
        Ok(facts)
    }

    /// Small constants become constants, weights become inputs of known shape.
    fn settle_constants(&self, model: &mut InferenceModel) -> Result<()> {
        let mut sources: HashMap<String, usize> =
            model.inputs.iter().map(|outlet| (model.nodes[outlet.node].name.clone(), outlet.node)).collect();
        let mut settled = HashSet::new();
        for weight in &self.weights {
            let Some(id) = sources.remove(&weight.name) else { continue };
            let node = &mut model.nodes[id];
            if weight.is_small() {
                let tensor = weight.to_tract()?.into_arc_tensor();
                node.outputs[0].fact = InferenceFact::try_from(&tensor).map_err(foreign)?;
                node.op = Box::new(Const::new(tensor).map_err(foreign)?) as Box<dyn InferenceOp>;
            } else {
                node.outputs[0].fact = InferenceFact::dt_shape(weight.datum_type(), &weight.shape);
            }
            settled.insert(id);
        }
        model.inputs.retain(|outlet| !settled.contains(&outlet.node));
        Ok(())
    }
}

fn collect(
    model: &InferenceModel,
    node: usize,
    slot: usize,
    name: &str,
    facts: &mut HashMap<String, Fact>,
) -> Result<()> {
    let Some(outlet) = model.nodes()[node].outputs.get(slot) else { return Ok(()) };
    let of = |error: Error| error.in_node(&model.nodes()[node].name);
    if let Some(fact) = fact(&outlet.fact).map_err(of)? {
        facts.insert(name.to_owned(), fact);
    }
    Ok(())
}

/// `None` for what tract leaves open: values that nothing needs.
fn fact(inferred: &InferenceFact) -> Result<Option<Fact>> {
    let (Some(datum_type), Some(shape)) =
        (inferred.datum_type.concretize(), inferred.shape.as_concrete_finite().ok().flatten())
    else {
        return Ok(None);
    };
    let (shape, Some(dtype)) = (shape.to_vec(), dtype(datum_type)) else { return Ok(None) };
    if crate::value::elements(&shape).is_none_or(|volume| volume > MOST_ELEMENTS) {
        return fail!(Malformed, "its value gets absurd dimensions {shape:?}: more than {MOST_ELEMENTS} elements");
    }
    let content = inferred.value.concretize().and_then(|tensor| plain(&tensor, dtype));
    Ok(Some(Fact { dtype, shape, content }))
}

fn dtype(datum_type: DatumType) -> Option<DType> {
    Some(match datum_type {
        DatumType::F16 => DType::F16,
        DatumType::F32 => DType::F32,
        DatumType::F64 => DType::F64,
        DatumType::I8 => DType::I8,
        DatumType::I32 => DType::I32,
        DatumType::I64 | DatumType::TDim => DType::I64,
        DatumType::U8 => DType::U8,
        DatumType::Bool => DType::Bool,
        _ => return None,
    })
}

/// A folded value as ours; `None` when it holds a symbol.
fn plain(tensor: &tract_onnx::prelude::Tensor, dtype: DType) -> Option<Tensor> {
    let cast = tensor.cast_to_dt(crate::model::datum_type(dtype)).ok()?.into_owned();
    let view = cast.try_as_plain_ram().ok()?;
    macro_rules! copy {
        ($type:ty) => {
            view.as_slice::<$type>().ok()?.to_vec().into()
        };
    }
    let data: Data = match dtype {
        DType::F16 => copy!(half::f16),
        DType::F32 => copy!(f32),
        DType::F64 => copy!(f64),
        DType::I8 => copy!(i8),
        DType::I32 => copy!(i32),
        DType::I64 => copy!(i64),
        DType::U8 => copy!(u8),
        DType::Bool => copy!(bool),
    };
    Tensor::new(cast.shape(), data).ok()
}
