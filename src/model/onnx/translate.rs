//! From a checked graph to tract's typed model, with concrete shapes.

use super::Graph;
use crate::caught::{catch, clip};
use crate::error::{Error, ErrorKind, Result, fail};
use crate::model::weights::{MOST_ELEMENTS, Weight};
use crate::value::DType;
use std::collections::HashMap;
use tract_onnx::pb::{ModelProto, TypeProto, ValueInfoProto, type_proto};
use tract_onnx::prelude::{DatumType, InferenceModelExt, IntoArcTensor, TypedModel};
use tract_onnx::tract_hir::infer::{InferenceFact, InferenceModel, InferenceOp};
use tract_onnx::tract_hir::ops::konst::Const;

impl Graph {
    /// tract's typed model of this graph for inputs of `shapes` (in the order of [`Graph::inputs`]); consumes the constants.
    ///
    /// # Errors
    /// `Engine` with tract's own words when it cannot read the graph or panics at it; `Io` when external data cannot be read; `Malformed`
    /// when a value inside the graph gets absurd dimensions.
    pub(crate) fn into_typed(self, shapes: &[Vec<usize>]) -> Result<TypedModel> {
        let file = self.file.clone();
        catch("tract", "reading the graph", || self.typed(shapes)).map_err(|error| error.in_file(file))
    }

    fn typed(mut self, shapes: &[Vec<usize>]) -> Result<TypedModel> {
        mute_opset_warning(&mut self.model);
        announce(&mut self.model, &self.weights);
        let parsed = tract_onnx::onnx().with_ignore_value_info(true).parse(&self.model, None).map_err(foreign)?;
        drop(self.model);
        let mut model = parsed.model;
        put_back(&mut model, self.weights)?;
        let dtypes: Vec<DType> = self.inputs.iter().map(|port| port.dtype).collect();
        concretise(&mut model, &dtypes, shapes)?;
        let typed = model.into_typed().map_err(foreign)?;
        check_volumes(&typed)?;
        Ok(typed)
    }
}

/// tract's error as ours.
pub(crate) fn foreign(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Engine, format!("tract cannot run it: {}", clip(&format!("{error:#}"))))
}

/// tract warns about operator sets above 18. Those up to 20 differ from 18, as far as tract reads the version, in DFT and GridSample only.
pub(super) fn mute_opset_warning(model: &mut ModelProto) {
    let differs = |op: &str| op == "DFT" || op == "GridSample";
    let mut plain = true;
    if let Some(graph) = &model.graph {
        super::check::each_node(graph, &mut |node| plain &= !differs(&node.op_type));
    }
    for set in model.opset_import.iter_mut().filter(|set| plain && (set.domain.is_empty() || set.domain == "ai.onnx")) {
        set.version = set.version.min(18);
    }
}

/// Declares the constants as inputs, so that tract makes a source of each.
pub(super) fn announce(model: &mut ModelProto, weights: &[Weight]) {
    let inputs = model.graph.iter_mut().map(|graph| &mut graph.input);
    inputs.for_each(|inputs| inputs.extend(weights.iter().map(value_info)));
}

fn value_info(weight: &Weight) -> ValueInfoProto {
    let tensor = type_proto::Tensor { elem_type: weight.computed() as i32, shape: None };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto {
        name: weight.name.clone(),
        r#type: Some(TypeProto { value, ..TypeProto::default() }),
        ..Default::default()
    }
}

/// Makes constants of the sources that stand for them, freeing each protobuf content on the way.
fn put_back(model: &mut InferenceModel, weights: Vec<Weight>) -> Result<()> {
    let mut sources: HashMap<String, usize> =
        model.inputs.iter().map(|outlet| (model.nodes[outlet.node].name.clone(), outlet.node)).collect();
    let mut constants = std::collections::HashSet::new();
    for weight in weights {
        let Some(id) = sources.remove(&weight.name) else { continue };
        let tensor = weight.to_tract()?.into_arc_tensor();
        let node = &mut model.nodes[id];
        node.outputs[0].fact = InferenceFact::try_from(&tensor).map_err(foreign)?;
        node.op = Box::new(Const::new(tensor).map_err(foreign)?) as Box<dyn InferenceOp>;
        constants.insert(id);
    }
    model.inputs.retain(|outlet| !constants.contains(&outlet.node));
    Ok(())
}

pub(super) fn concretise(model: &mut InferenceModel, dtypes: &[DType], shapes: &[Vec<usize>]) -> Result<()> {
    if model.inputs.len() != shapes.len() {
        return fail!(Engine, "tract sees {} inputs where the file has {}", model.inputs.len(), shapes.len());
    }
    for (index, (dtype, shape)) in dtypes.iter().zip(shapes).enumerate() {
        let fact = InferenceFact::dt_shape(datum_type(*dtype), shape);
        model.set_input_fact(index, fact).map_err(foreign)?;
    }
    Ok(())
}

/// tract's name of an element type.
pub(crate) fn datum_type(dtype: DType) -> DatumType {
    match dtype {
        DType::F16 => DatumType::F16,
        DType::F32 => DatumType::F32,
        DType::F64 => DatumType::F64,
        DType::I8 => DatumType::I8,
        DType::I32 => DatumType::I32,
        DType::I64 => DatumType::I64,
        DType::U8 => DatumType::U8,
        DType::Bool => DatumType::Bool,
    }
}

fn check_volumes(model: &TypedModel) -> Result<()> {
    for node in model.nodes() {
        for output in &node.outputs {
            let Some(shape) = output.fact.shape.as_concrete() else { continue };
            if crate::value::elements(shape).is_none_or(|volume| volume > MOST_ELEMENTS) {
                return fail!(
                    Malformed,
                    "its value gets absurd dimensions {shape:?}: more than {MOST_ELEMENTS} elements"
                )
                .map_err(|error: Error| error.in_node(&node.name));
            }
        }
    }
    Ok(())
}
