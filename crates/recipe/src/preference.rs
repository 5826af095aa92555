//! Preference training: the loss of a pair of answers, and against which model it is measured.

use crate::kind::{above, choice, number};
use crate::reader::section;
use crate::settings::{Valued, is, said};

crate::kind::words! {
    /// The loss of a preference pair.
    pub enum PairLoss {
        /// DPO (Rafailov et al. 2023); with label smoothing, cDPO (Mitchell 2023).
        Sigmoid = "sigmoid",
        /// IPO (Azar et al. 2023), over mean log-probabilities of tokens.
        Ipo = "ipo",
        /// SLiC (Zhao et al. 2023).
        Hinge = "hinge",
        /// DPO unbiased under flipped labels (Chowdhury et al. 2024).
        Robust = "robust",
    }
}

crate::kind::words! {
    /// The model against which preferences are measured.
    pub enum ReferenceModel {
        /// What the stage starts from: of a LoRA stage the weights without the adapter.
        Start = "start",
        /// The recipe's base, whatever stages came before.
        Base = "base",
    }
}

/// What the defaults of full-rank DPO rest on.
pub(crate) const DPO_FULL: &str = "the default of TRL's DPOConfig";

section! {
    /// Preference pairs: which loss, and against which reference.
    pub struct Preference |f| {
        /// The loss of a pair.
        loss_type: Valued<PairLoss> = f.aliases(&["pref_loss"]).default(choice(), PairLoss::Sigmoid, DPO_FULL);
        /// How strongly the reference holds; lower lets the model go further. Of `ipo`, its tau. Nova's `dpo_cfg.beta`.
        beta: Valued<f64> = f.aliases(&["dpo_beta", "pref_beta", "rl_beta"]).default(
            number(above(0.0)),
            0.1,
            "TRL's DPOConfig and Amazon Nova Forge, which says 0.01 to 0.05 for bolder changes",
        );
        /// Share of the labels that are taken to be wrong; not for `ipo` and `hinge`.
        label_smoothing: Option<Valued<f64>> = {
            let because = said("loss_type", &loss_type);
            let smoothed = !matches!(is(&loss_type), Some(PairLoss::Ipo | PairLoss::Hinge));
            f.aliases(&["dpo_label_smoothing"])
                .only_when(smoothed, &because, |f| f.default(number(0.0..0.5), 0.0, DPO_FULL))
        };
        /// Weight of the better answers' loss as in `sft`, in nats a token, beside the loss of the pairs.
        rpo_alpha: Valued<f64> =
            f.aliases(&["pref_ftx"]).default(number(0.0..), 0.0, "decision: DPO as it was published has no such term");
        /// The model against which preferences are measured.
        reference: Valued<ReferenceModel> =
            f.default(choice(), ReferenceModel::Start, "what TRL does: the adapter off, or a copy of the start");
    }
}
