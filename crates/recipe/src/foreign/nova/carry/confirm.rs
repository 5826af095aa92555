//! Values of a small model as a hypothesis about Nova, and the short search that confirms them before the long run.

use serde_json::json;

use crate::problem::Problem;
use crate::recipe::Recipe;

use super::super::super::carry::Exporter;
use super::super::super::hypothesis::{Hypothesis, Search, TRANSFER, Tried};
use super::super::super::script::number;
use super::super::super::view::Technique;
use super::export::{New, written};

/// Shares of the customer's rows that the guide has tried, in percent.
const SHARES: [f64; 3] = [25.0, 50.0, 75.0];
const SHARE: &str = "data_mixing.sources.customer_data.percent";

/// Nova's default rate.
fn default_rate(technique: Technique, lora: bool) -> f64 {
    match technique {
        Technique::Sft if !lora => 5e-6,
        // The guide's own sample; its advice is 1e-7.
        Technique::Rft => 1e-6,
        _ => 1e-5,
    }
}

fn rate_key(technique: Technique) -> &'static str {
    match technique {
        Technique::Sft => "training_config.optim_config.lr",
        Technique::Rft => "training_config.trainer.optim_config.lr",
        _ => "training_config.model.optim.lr",
    }
}

/// Two digits, without those that binary arithmetic adds.
fn rounded(rate: f64) -> f64 {
    format!("{rate:.1e}").parse().unwrap_or(rate)
}

/// The rate that the hypothesis says for Nova, by the rules of [`TRANSFER`].
fn rate(hypothesis: &Hypothesis, technique: Technique, lora: bool) -> f64 {
    let times = hypothesis.rate_times().unwrap_or(1.0);
    rounded(default_rate(technique, lora) * times.clamp(0.5, 2.0))
}

/// Writes what a search found on a small model as a hypothesis about Nova.
pub(super) fn carry(to: &mut Exporter<'_>, hypothesis: &Hypothesis, technique: Technique, lora: bool) {
    let default = default_rate(technique, lora);
    let key = rate_key(technique);
    if let Some(times) = hypothesis.rate_times() {
        let rate = rate(hypothesis, technique, lora);
        to.script.put(
            key,
            &json!(rate),
            &format!(
                "hypothesis: {} of Nova's default, tuned {} of Temper's",
                number(rate / default),
                number((times * 100.0).round() / 100.0)
            ),
        );
    } else {
        to.script.put(key, &json!(default), "Nova's default: the search left it");
    }
    if lora {
        let (key, alpha) = match technique {
            Technique::Sft => ("training_config.peft.lora_tuning.alpha", 64),
            Technique::Rft => ("training_config.trainer.peft.lora_tuning.alpha", 32),
            _ => ("training_config.model.peft.lora_tuning.alpha", 64),
        };
        to.script.put(key, &json!(alpha), "Nova's default: alpha and rank of another model do not carry over");
    }
    if let Some(domain) = hypothesis.domain
        && to.script.has(SHARE)
    {
        to.script.put(SHARE, &json!(domain), "hypothesis: tuned on a small model");
    }
}

/// What is said at the head of such a recipe.
pub(super) fn head(hypothesis: &Hypothesis) -> String {
    let mut out = format!(
        "#\n# HYPOTHESIS, not a result: values tuned on {} by {}. Carried by these rules:\n",
        hypothesis.model, hypothesis.from
    );
    for rule in TRANSFER {
        out += &format!("#   {}: {} [{}]\n", rule.what, rule.rule, rule.source);
    }
    out += "# A short search confirms it before the long run: the rate at Nova's default, at this one and at half or twice the default, then\n\
            # the mix at 25, 50 or 75 % customer data, one knob at a time (Nova user guide), each a tenth of the run. `temper export --search\n\
            # FOLDER` writes these recipes, in which order to try them and when to stop.\n";
    out
}

/// A trial before it is written.
struct Planned {
    name: &'static str,
    why: String,
    rate: f64,
    share: Option<f64>,
}

/// The recipes of the short search, in the order in which they are tried.
pub(crate) fn search(recipe: &Recipe, rows: Option<u64>, hypothesis: &Hypothesis) -> Result<Search, Problem> {
    // What the recipe itself comes to says what is tried.
    let (mut planned, mut short) = (Vec::new(), None);
    written(recipe, rows, Some(hypothesis), &mut |to, new| {
        planned = trials(hypothesis, new, to.script.has(SHARE));
        short = new.steps.map(|steps| (steps, tenth(new.technique, steps)));
    })?;
    let mut recipes = Vec::new();
    for (index, trial) in planned.iter().enumerate() {
        let name = format!("{}-{}", index + 1, trial.name);
        let carried = written(recipe, rows, Some(hypothesis), &mut |to, new| change(to, new, trial, &name))?;
        let text =
            carried.text.replacen("# HYPOTHESIS", &format!("# Trial {}: {}.\n# HYPOTHESIS", index + 1, trial.why), 1);
        recipes.push(Tried { name, why: trial.why.clone(), text });
    }
    let order = order(hypothesis, &recipes, short);
    Ok(Search { recipes, order })
}

/// What is tried: the control, the hypothesis, one rate further in its direction; then the shares beside its own.
fn trials(hypothesis: &Hypothesis, new: &New, mixes: bool) -> Vec<Planned> {
    let default = default_rate(new.technique, new.lora);
    let said = rate(hypothesis, new.technique, new.lora);
    let share = hypothesis.domain.filter(|_| mixes);
    let same = |a: f64, b: f64| (a / b - 1.0).abs() < 0.1;
    let planned = |name, why: String, rate, share| Planned { name, why, rate, share };
    let mut all = Vec::new();
    if !same(said, default) {
        all.push(planned(
            "control",
            format!("Nova's default rate, {}, with all else as in the hypothesis", number(default)),
            default,
            share,
        ));
    }
    all.push(planned("hypothesis", format!("the hypothesis: the rate {}", number(said)), said, share));
    // Where the hypothesis is the default, both ends are open.
    let ends = [rounded(0.5 * default), rounded(2.0 * default)];
    for end in ends.into_iter().filter(|end| !same(*end, said)) {
        let beyond = if said > default { end > said } else { end < said };
        if same(said, default) || beyond {
            let name = if end > said { "rate-higher" } else { "rate-lower" };
            all.push(planned(
                name,
                format!("the rate at {}, {} times Nova's default", number(end), number(end / default)),
                end,
                share,
            ));
        }
    }
    // At the end of what is carried nothing lies beyond: what lies between is tried.
    if all.len() == 2 {
        let between = rounded((default * said).sqrt());
        all.push(planned("rate-between", format!("the rate at {}, between the two", number(between)), between, share));
    }
    if let Some(share) = share {
        let less = SHARES.into_iter().rfind(|one| *one < share);
        let more = SHARES.into_iter().find(|one| *one > share);
        for (name, one) in [("mix-less-customer", less), ("mix-more-customer", more)] {
            let Some(one) = one else { continue };
            all.push(planned(
                name,
                format!("{} % customer data, at the best rate so far: put it in", number(one)),
                said,
                Some(one),
            ));
        }
    }
    all
}

/// A tenth of the steps, as far as Nova takes so few.
fn tenth(technique: Technique, steps: u64) -> u64 {
    let least = match technique {
        Technique::Sft => 4,
        Technique::Rft => 5,
        _ => 10,
    };
    // An even number: a serverless job saves at even steps only.
    ((steps / 10).max(least).min(steps)).next_multiple_of(2).min(steps)
}

/// Makes the recipe that of a trial.
fn change(to: &mut Exporter<'_>, new: &New, trial: &Planned, name: &str) {
    let run = format!("{}-{name}", to.recipe.name.value);
    to.script.put("run.name", &json!(run), "");
    to.script.put(rate_key(new.technique), &json!(trial.rate), "");
    if let Some(share) = trial.share {
        to.script.put(SHARE, &json!(share), "");
    }
    let (steps_key, save_key, warmup_key, eval_key) = match new.technique {
        Technique::Sft => ("max_steps", Some("save_steps"), Some("lr_scheduler.warmup_steps"), "val_check_interval"),
        Technique::Rft => ("trainer.max_steps", Some("trainer.save_steps"), None, "trainer.test_steps"),
        _ => ("trainer.max_steps", None, Some("model.optim.sched.warmup_steps"), "trainer.val_check_interval"),
    };
    let at = |key: &str| format!("training_config.{key}");
    let Some(steps) = new.steps else {
        to.script.put(
            &at("trainer.max_epochs"),
            &json!(1),
            "the least there is; give it fewer rows where that is too many",
        );
        return;
    };
    let short = tenth(new.technique, steps);
    to.script.put(&at(steps_key), &json!(short), "a tenth of the run");
    if let Some(key) = save_key {
        to.script.put(&at(key), &json!(short), "");
    }
    if let Some(key) = warmup_key {
        to.script.put(&at(key), &json!(short.div_ceil(10)), "a tenth of the steps, in every trial");
    }
    if to.script.has(&at(eval_key)) {
        to.script.put(&at(eval_key), &json!(short.div_ceil(2)), "twice in the trial");
    }
}

/// In which order to try them and when to stop, as Markdown.
fn order(hypothesis: &Hypothesis, recipes: &[Tried], short: Option<(u64, u64)>) -> String {
    let mut out = format!(
        "# A short search before the long run\n\nThe values were tuned on {} by {}. About Nova they are a hypothesis.\n",
        hypothesis.model, hypothesis.from
    );
    match short {
        Some((steps, short)) => {
            out += &format!(
                "Each of these recipes is the long one with {short} of its {steps} steps, and one value changed.\n"
            );
        }
        None => out += "Each of these recipes is the long one with one pass over the rows, and one value changed.\n",
    }
    out += "`temper check FILE` looks at each, `temper nova submit FILE` starts it.\n\n| try | recipe | what it tells |\n|---|---|---|\n";
    for (index, one) in recipes.iter().enumerate() {
        out += &format!("| {} | `{}.yaml` | {} |\n", index + 1, one.name, one.why);
    }
    let has = |part: &str| recipes.iter().any(|one| one.name.contains(part));
    out += "\n## The rule\n\n\
            Judge every trial on the same two sets: rows of the domain that none was trained on, and MMLU. A trial is better where its domain score is\n\
            higher by more than its interval, and MMLU stays within 0.02 of the base (AWS blog, Nova Forge SDK part 2, April 2026).\n\n";
    if has("control") {
        out += "- The hypothesis is not better than the control: keep Nova's default rate, and try no further rate.\n";
        out += "- It is better: try the rate after it in the table, and keep that where it is better still.\n";
    } else {
        out += "- The hypothesis is Nova's default rate. Try the two others; keep the default unless one of them is better.\n";
    }
    if has("mix") {
        out += "- MMLU of the best trial falls by more than 0.02: try less customer data, before any other knob. It is kept, and the domain score is low: try more.\n\
                  Else leave the mix as it is.\n";
    }
    out += "- Stop when two trials in a row are no better, or when the money for the search is spent. Then start the long recipe with the values of the best.\n\n\
            One value at a time over half, once and twice its default is the guide's own way (Amazon Nova user guide, 2026). A tenth of the run, 0.02 as a bound and\n\
            two in a row are ours: nobody has published how short such a search may be. Short runs favour high rates.\n";
    out
}
