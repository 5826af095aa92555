//! The parameters of a decoder by the names that files give them.

use temper_kernels::Device;

use super::Llama;
use crate::parameters::Parameter;

impl<D: Device> Llama<D> {
    /// Every weight under its HF name, in the order of the checkpoint's tree.
    pub fn weights(&self) -> Vec<(String, Parameter<D::Buffer>)> {
        let mut all = Vec::new();
        let whole = |p: &Parameter<D::Buffer>| p.rows(0..p.value.rows());
        all.push(("model.embed_tokens.weight".to_owned(), whole(&self.embedding)));
        let visit = &mut |name, parameter| all.push((name, parameter));
        for layer in &self.layers {
            let norms = &layer.norms;
            norms.attention.visit(visit);
            layer.qkv.visit_weights(visit);
            norms.heads.iter().flatten().for_each(|norm| norm.visit(visit));
            layer.o.visit_weights(visit);
            norms.branches.iter().for_each(|[behind, _]| behind.visit(visit));
            norms.mlp.visit(visit);
            layer.gate_up.visit_weights(visit);
            layer.down.visit_weights(visit);
            norms.branches.iter().for_each(|[_, behind]| behind.visit(visit));
        }
        self.norm.visit(visit);
        if let Some(head) = &self.head {
            all.push(("lm_head.weight".to_owned(), whole(head)));
        }
        all
    }

    /// Every adapter matrix under PEFT's name without its prefix: `....q_proj.lora_A.weight` [rank, in],
    /// `....lora_B.weight` [out, rank] and, with DoRA, `....lora_magnitude_vector` [out, 1].
    pub fn adapters(&self) -> Vec<(String, Parameter<D::Buffer>)> {
        let mut all = Vec::new();
        for linear in self.linears() {
            linear.visit_adapters(&mut |name, parameter| all.push((name, parameter)));
        }
        all
    }

    /// What is trained, by name, each with a gradient: the adapters of a LoRA model, all weights of a full one.
    pub fn trained(&self) -> Vec<(String, Parameter<D::Buffer>)> {
        let mut all = self.adapters();
        all.extend(self.weights());
        all.retain(|(_, parameter)| parameter.gradient.is_some());
        all
    }
}
