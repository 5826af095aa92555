//! Low-rank adapters: where they sit, how they begin, how they are trained.

use crate::kind::{
    Choice, Kind, above, above_to, choice, choice_refusing, closest, integer, list, number, one_or_list, text, truth,
};
use crate::reader::{Context, section};
use crate::settings::Valued;
use crate::tree::Node;

crate::kind::words! {
    /// A linear map of a decoder block that an adapter can sit on.
    pub enum Linear {
        /// Attention, queries.
        QProj = "q_proj",
        /// Attention, keys.
        KProj = "k_proj",
        /// Attention, values.
        VProj = "v_proj",
        /// Attention, output.
        OProj = "o_proj",
        /// MLP, gate.
        GateProj = "gate_proj",
        /// MLP, up.
        UpProj = "up_proj",
        /// MLP, down.
        DownProj = "down_proj",
    }
}

impl Linear {
    /// The names of all seven, which a recipe calls `all-linear`.
    pub fn all() -> Vec<String> {
        Self::ALL.iter().map(|(name, _)| (*name).to_owned()).collect()
    }
}

/// The end of a module's path: one of [`Linear`], perhaps with what stands before it.
fn linear_path() -> Kind<String> {
    let one = choice::<Linear>();
    let expected = format!("{}, or a path that ends so, such as `layers.29.mlp.down_proj`", one.text);
    let inner = text();
    let shown = expected.clone();
    let read = move |node: &Node, path: &str, cx: &mut Context| {
        let given = (inner.read)(node, path, cx)?;
        let name = given.rsplit('.').next().unwrap_or(&given);
        let known = Linear::ALL.iter().any(|(linear, _)| *linear == name);
        if known && given.split('.').all(|part| !part.is_empty()) {
            return Some(given);
        }
        let close = closest(name, Linear::ALL.iter().map(|(linear, _)| *linear));
        let hint = close.map_or_else(|| "choose one of these".into(), |linear| format!("did you mean `{linear}`?"));
        cx.expected(node, path, &expected, &hint)
    };
    Kind { text: shown, schema: serde_json::json!({"type": "string", "pattern": LINEAR_PATTERN}), read: Box::new(read) }
}

const LINEAR_PATTERN: &str = r"^([^.]+\.)*(q|k|v|o|gate|up|down)_proj$";

crate::kind::words! {
    /// What is done with an adapter that a stage begins with.
    pub enum AdapterUse {
        /// Trained on.
        Continue = "continue",
        /// Merged into the weights, which the stage then begins with.
        Merge = "merge",
    }
}

crate::kind::words! {
    /// A table of the model.
    pub enum Table {
        /// The embedding.
        EmbedTokens = "embed_tokens",
        /// The output head.
        LmHead = "lm_head",
    }
}

crate::kind::words! {
    /// How the adapters' first matrix begins.
    pub enum InitLora {
        /// Uniform, as `kaiming_uniform_(a=sqrt(5))` does it.
        Kaiming = "kaiming",
        /// Normal with deviation 1/rank.
        Gaussian = "gaussian",
    }
}

const INIT: &str = "an initialisation that is not in this version";

crate::kind::words! {
    /// The word that stands for all linear maps.
    pub enum AllLinear {
        /// All seven.
        All = "all-linear",
    }
}

section! {
    /// Low-rank adapters: W + (alpha / rank) * B * A. Field names are PEFT's.
    pub struct Lora |f| {
        /// Rank of the adapters.
        lora_rank: Valued<u64> = f.aliases(&["lora_r", "r", "lora_dim"]).default(
            integer(1..=4096),
            16,
            "within the usual 8 to 64; the best learning rate hardly depends on it (LoRA Without Regret, 2025)",
        );
        /// Scale of the adapters: their product is multiplied by lora_alpha / lora_rank.
        lora_alpha: Valued<f64> = f.default(
            number(above(0.0)),
            32.0,
            "fixed at 32, so that rank and learning rate stay two knobs (LoRA Without Regret, 2025)",
        );
        /// The linear maps that get an adapter; a name stands for all of that name, the end of a path, such as
        /// `layers.29.mlp.down_proj`, for those of some layers.
        target_modules: Valued<Vec<String>> = f.aliases(&["lora_target_modules", "lora_target"]).default(
            one_or_list(choice::<AllLinear>().map(|_| Linear::all()), linear_path()),
            Linear::all(),
            "all-linear: adapters on attention alone fall behind (LoRA Without Regret, 2025; Biderman et al. 2024)",
        );
        /// Share of the elements of an adapter's input that a training step drops. What is dropped goes by seed, step, row and
        /// position: not by the micro-batch, and the same after a resume.
        lora_dropout: Valued<f64> = f.default(number(0.0..1.0), 0.0, "the default of PEFT's LoraConfig");
        /// Scale by lora_alpha / sqrt(lora_rank) in place of lora_alpha / lora_rank (rsLoRA, Kalajdzievski 2023).
        use_rslora: Valued<bool> =
            f.aliases(&["peft_use_rslora"]).default(truth(), false, "the default of PEFT's LoraConfig");
        /// Train the length of each weight row apart from its direction (DoRA, Liu et al. 2024). Takes more time and memory.
        use_dora: Valued<bool> =
            f.aliases(&["peft_use_dora"]).default(truth(), false, "the default of PEFT's LoraConfig");
        /// Learning rate of the adapters' second matrix, B, as a multiple of `learning_rate` (LoRA+, Hayou et al. 2024); also
        /// that of DoRA's lengths, as in PEFT.
        loraplus_lr_ratio: Valued<f64> = f.aliases(&["lora_plus_ratio", "lora_plus_lr_ratio"]).default(
            number(above_to(0.0, 1000.0)),
            1.0,
            "decision: one rate for both, plain LoRA",
        );
        /// Tables that are trained whole beside the adapters, as new tokens need. Where the base ties its head to the embedding
        /// they are one, either name stands for it, and it stays one.
        modules_to_save: Valued<Vec<Table>> = f.aliases(&["lora_modules_to_save", "additional_target"]).default(
            list(0, choice()),
            Vec::new(),
            "the default of PEFT's LoraConfig",
        );
        /// How the adapters' first matrix, A, begins: uniform in +-1/sqrt(inputs), or normal with deviation 1/lora_rank. B begins
        /// at zero, so the model begins as its base.
        init_lora_weights: Valued<InitLora> = f.default(
            choice_refusing(&[
                ("true", "PEFT's word for `kaiming`"),
                ("false", "PEFT's word for adapters that change the model before training, which makes no sense here"),
                ("pissa", INIT),
                ("olora", INIT),
                ("eva", INIT),
                ("corda", INIT),
                ("loftq", INIT),
                ("orthogonal", INIT),
            ]),
            InitLora::Kaiming,
            "the default of PEFT's LoraConfig, `true`",
        );
    }
}
