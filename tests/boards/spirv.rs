//! What a compute shader's SPIR-V asks of a device.

use rspirv::binary::parse_words;
use rspirv::dr::{Instruction, Loader, Module, Operand};
use rspirv::spirv::{Capability, ExecutionMode, Op, StorageClass};
use std::collections::HashMap;

/// Read from the words alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demands {
    pub capabilities: Vec<Capability>,
    pub extensions: usize,
    /// Bytes of workgroup memory.
    pub shared: u32,
    /// Invocations along each axis.
    pub size: [u32; 3],
    /// Storage buffers.
    pub buffers: usize,
    /// Bytes of push constants.
    pub push: u32,
}

impl Demands {
    pub fn of(words: &[u32]) -> Demands {
        let mut loader = Loader::new();
        parse_words(words, &mut loader).expect("SPIR-V");
        let module = loader.module();
        let types = Types::of(&module);
        let variables = |class: StorageClass| {
            let of = move |variable: &&Instruction| matches!(variable.operands[0], Operand::StorageClass(own) if own == class);
            module.types_global_values.iter().filter(|global| global.class.opcode == Op::Variable).filter(of)
        };
        let bytes = |class| variables(class).map(|variable| types.pointed(variable.result_type)).sum();
        Demands {
            capabilities: module.capabilities.iter().map(capability).collect(),
            extensions: module.extensions.len(),
            shared: bytes(StorageClass::Workgroup),
            size: size(&module),
            buffers: variables(StorageClass::StorageBuffer).count(),
            push: bytes(StorageClass::PushConstant),
        }
    }
}

fn capability(instruction: &Instruction) -> Capability {
    match instruction.operands[0] {
        Operand::Capability(capability) => capability,
        ref other => panic!("{other:?} is no capability"),
    }
}

fn size(module: &Module) -> [u32; 3] {
    let mode = module.execution_modes.iter().find_map(|mode| match mode.operands[1] {
        Operand::ExecutionMode(ExecutionMode::LocalSize) => Some(&mode.operands[2..]),
        _ => None,
    });
    let mode = mode.expect("a compute shader says its size");
    std::array::from_fn(|axis| number(&mode[axis]))
}

fn number(operand: &Operand) -> u32 {
    match operand {
        Operand::LiteralBit32(value) => *value,
        other => panic!("{other:?} is no number"),
    }
}

struct Types<'a>(HashMap<u32, &'a Instruction>);

impl<'a> Types<'a> {
    fn of(module: &'a Module) -> Types<'a> {
        let named = |global: &'a Instruction| Some((global.result_id?, global));
        Types(module.types_global_values.iter().filter_map(named).collect())
    }

    fn pointed(&self, pointer: Option<u32>) -> u32 {
        let pointer = self.0[&pointer.expect("a variable has a type")];
        self.bytes(&pointer.operands[1])
    }

    /// As vectors of three take the room of four, this is no less than any driver takes.
    fn bytes(&self, of: &Operand) -> u32 {
        let Operand::IdRef(id) = of else { panic!("{of:?} is no type") };
        let instruction = self.0[id];
        let operands = &instruction.operands;
        match instruction.class.opcode {
            Op::TypeBool => 4,
            Op::TypeInt | Op::TypeFloat => number(&operands[0]).div_ceil(8),
            Op::TypeVector => self.bytes(&operands[0]) * number(&operands[1]).next_power_of_two(),
            Op::TypeArray => self.bytes(&operands[0]) * self.constant(&operands[1]),
            Op::TypeStruct => operands.iter().map(|member| self.bytes(member)).sum(),
            other => panic!("{other:?} has no size here"),
        }
    }

    fn constant(&self, of: &Operand) -> u32 {
        let Operand::IdRef(id) = of else { panic!("{of:?} is no constant") };
        number(&self.0[id].operands[0])
    }
}
