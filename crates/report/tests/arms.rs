//! The page of made-up arms: ranked, refused, without a domain, hostile.
//!
//! `TEMPER_ARMS_PAGES=FOLDER cargo test --release -p temper-report --test arms` leaves the pages there, to be looked at.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use temper_eval::compare::Row;
use temper_report::arms::{Arms, Difference, Tried};

fn interval([estimate, low, high]: [f64; 3]) -> Value {
    json!({"estimate": estimate, "low": low, "high": high, "n": 500, "clusters": 500})
}

fn row(suite: &str, metric: &str, base: Option<f64>, tuned: f64, difference: [f64; 3], higher: bool) -> Value {
    json!({"suite": suite, "kind": null, "metric": metric, "base": base, "tuned": tuned, "difference": interval(difference),
           "higher_is_better": higher, "floor": null})
}

/// Domain accuracy, and what became of two suites with floors and of one without.
fn judged(accuracy: f64, heldout: f64, wordnet: f64) -> Value {
    let around = |value: f64, width: f64| [value, value - width, value + width];
    let floor = |row: Value, margin: f64, kept: bool| {
        let mut row = row;
        row["floor"] = json!({"margin": margin, "decision": {"is": if kept { "kept" } else { "forgot" }}});
        row
    };
    let rows = json!([
        row("domain", "accuracy", Some(0.1), accuracy, around(accuracy - 0.1, 0.04), true),
        row("domain", "reward", Some(0.2), accuracy + 0.1, around(accuracy - 0.1, 0.03), true),
        floor(row("heldout", "relative_loss", None, heldout, around(heldout, 0.005), false), 0.02, heldout < 0.02),
        row("heldout", "nats_per_token", Some(3.9), 3.9 + heldout, around(heldout, 0.01), false),
        floor(
            row("wordnet", "accuracy", Some(0.59), 0.59 + wordnet, around(wordnet, 0.02), true),
            0.06,
            wordnet > -0.06
        ),
        row("chat", "kl", None, 0.17, [0.17, 0.158, 0.183], false),
    ]);
    json!({"rows": rows, "judgement": null})
}

fn arm(folder: &Path, name: &str, stages: &[usize], comparison: Value) -> Tried {
    Tried {
        name: name.to_owned(),
        stages: stages.to_vec(),
        folder: folder.join(name),
        processed_tokens: 77_447 * stages.len(),
        trained_tokens: 34_206,
        sampled_tokens: if stages.contains(&2) { 51_200 } else { 0 },
        seconds: 131.0,
        comparison: serde_json::from_value(comparison).unwrap(),
        refused: None,
    }
}

fn difference(of: &str, beside: &str, adds: Option<usize>, accuracy: [f64; 3]) -> Difference {
    let rows = [
        row("domain", "accuracy", Some(0.5), 0.5 + accuracy[0], accuracy, true),
        row("heldout", "relative_loss", None, 0.012, [0.012, 0.008, 0.016], false),
        row("wordnet", "accuracy", Some(0.59), 0.585, [-0.005, -0.02, 0.01], true),
    ];
    let rows: Vec<Row> = rows.into_iter().map(|row| serde_json::from_value(row).unwrap()).collect();
    Difference { of: of.into(), beside: beside.into(), adds, rows }
}

/// Continued pretraining, demonstrations, reinforcement; the pairs of which are in the order that they are made in.
fn arms(folder: &Path) -> Arms {
    let refused = Tried {
        refused: Some("stages.2: reinforcement is not worth it from here".into()),
        ..arm(folder, "rft", &[2], Value::Null)
    };
    Arms {
        name: "clock".into(),
        kinds: ["cpt", "sft", "rft"].map(String::from).to_vec(),
        arms: vec![
            arm(folder, "sft", &[1], judged(0.54, -0.034, 0.02)),
            refused,
            arm(folder, "cpt+sft", &[0, 1], judged(0.9, 0.058, -0.13)),
            arm(folder, "sft+rft", &[1, 2], judged(0.828, -0.03, 0.026)),
            arm(folder, "cpt+sft+rft", &[0, 1, 2], judged(0.81, 0.01, 0.01)),
        ],
        differences: vec![
            difference("cpt+sft", "sft", Some(0), [0.36, 0.3, 0.42]),
            difference("sft+rft", "sft", Some(2), [0.288, 0.244, 0.336]),
            difference("sft+rft", "cpt+sft", None, [-0.072, -0.1, -0.04]),
            difference("cpt+sft+rft", "sft", None, [0.27, 0.22, 0.32]),
            difference("cpt+sft+rft", "cpt+sft", Some(2), [-0.09, -0.13, -0.05]),
            difference("cpt+sft+rft", "sft+rft", Some(0), [-0.018, -0.05, 0.014]),
        ],
    }
}

fn page(name: &str, arms: &Arms) -> String {
    let page = arms.render().unwrap();
    if let Some(folder) = std::env::var_os("TEMPER_ARMS_PAGES") {
        std::fs::write(PathBuf::from(folder).join(format!("{name}.html")), &page).unwrap();
    }
    assert!(!page.contains("NaN%") && !page.contains("inf%"), "a place that is no number");
    // Every element that holds others is closed as often as it is opened.
    for tag in ["section", "table", "tr", "td", "th", "div", "figure", "svg", "ul", "p", "span", "strong"] {
        let opened = page.matches(&format!("<{tag} ")).count() + page.matches(&format!("<{tag}>")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    page.replace("&#x2f;", "/")
}

#[test]
fn arms_are_ranked_with_their_intervals_tokens_and_reports() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sft+rft")).unwrap();
    std::fs::write(folder.path().join("sft+rft/report.html"), "").unwrap();
    let page = page("whole", &arms(folder.path()));
    for piece in [
        "<title>clock: sft+rft is first, within noise of cpt+sft+rft</title>",
        // It is neither the highest, which broke its floors, nor beyond doubt.
        "sft+rft: domain accuracy 82.8 % (+72.8 [+68.8, +76.8] points to the base, 95 % interval), the best of those that broke no floor",
        "What does each stage of cpt, then sft, then rft bring",
        "rft: stages.2: reinforcement is not worth it from here",
        "<td class=\"num\">1</td><th scope=\"row\">sft+rft</th><td><span class=\"tag good\">none broken</span></td><td></td>\
         <td class=\"num\">82.8 % <span class=\"minor\">+72.8 [+68.8, +76.8]</span></td>",
        "<th scope=\"row\">cpt+sft+rft</th><td><span class=\"tag good\">none broken</span></td><td><span class=\"tag unsure\">within noise</span></td>",
        "<th scope=\"row\">sft</th><td><span class=\"tag good\">none broken</span></td><td><span class=\"tag plain\">more than noise</span></td>",
        "<td class=\"num\">4</td><th scope=\"row\">cpt+sft</th>",
        "<span class=\"tag bad\">2 broken</span>",
        "<td class=\"num\"></td><th scope=\"row\">rft</th>",
        "<span class=\"tag bad\">refused</span>",
        "<td class=\"num\">154,894</td><td class=\"num\">34,206</td><td class=\"num\">51,200</td><td class=\"num\">2 min 11 s</td><td><a href=\"sft+rft/report.html\">report</a></td>",
        "<th scope=\"row\">base</th><td></td><td></td><td class=\"num\">10.0 %</td>",
        "sft+rft beside sft <span class=\"minor\">adds rft</span>",
        "<span class=\"value\">+28.8 [+24.4, +33.6]</span> <span class=\"tag good\">more than noise</span>",
        "<span class=\"value\">−1.8 [−5.0, +1.4]</span> <span class=\"tag unsure\">within noise</span>",
        // A loss that rose is worse.
        "<span class=\"value\">+1.20 [+0.80, +1.60]</span> <span class=\"tag bad\">more than noise</span>",
        "<td class=\"num worse\"><strong>−7.2 [−10.0, −4.0]</strong></td>",
        "<td class=\"num muted\">−0.5 [−2.0, +1.0]</td>",
    ] {
        assert!(page.contains(piece), "`{piece}` is not in:\n{page}");
    }
    // Who has no report is not linked to.
    assert_eq!(page.matches("<a ").count(), 1);
}

#[test]
fn every_arm_is_drawn_on_both_axes_with_its_intervals() {
    let page = page("axes", &arms(Path::new("none")));
    let (_, axes) = page.split_once("<section id=\"axes\"").unwrap();
    let (axes, _) = axes.split_once("</section>").unwrap();
    // Two metrics of the domain, which differ, against three suites; those with floors before the one without.
    let titles: Vec<&str> =
        axes.split("<figcaption><strong>").skip(1).map(|part| part.split_once('<').unwrap().0).collect();
    assert_eq!(titles.len(), 6, "{titles:?}");
    assert_eq!(titles[0], "domain accuracy against heldout relative loss");
    assert_eq!([titles[2], titles[5]], ["domain accuracy against chat KL", "domain reward against chat KL"]);
    let (figure, _) = axes.split_once("</figure>").unwrap();
    assert_eq!(figure.matches("class=\"whisker\"").count(), 4, "an arm each");
    for name in ["base", "sft", "cpt+sft", "sft+rft", "cpt+sft+rft"] {
        assert!(figure.contains(&format!(">{name}</text>")), "{name}");
    }
    for piece in [
        "class=\"whole recommended\"",
        "class=\"whole broken\"",
        "class=\"whole default\"",
        ">floor +2.00</text>",
        "<title>sft: domain accuracy +44.0 [+40.0, +48.0] points, heldout relative loss −3.40 [−3.90, −2.90] %</title>",
    ] {
        assert!(figure.contains(piece), "`{piece}` is not in {figure}");
    }
}

#[test]
fn what_there_is_to_say_is_said_where_arms_are_few_or_worse() {
    let folder = Path::new("none");
    let with = |arms: Vec<Tried>, differences: Vec<Difference>| Arms {
        name: "few".into(),
        kinds: ["sft", "rft"].map(String::from).to_vec(),
        arms,
        differences,
    };
    let short = |arms: &Arms| {
        let page = page("few", arms);
        page.split_once("<title>few: ").unwrap().1.split_once("</title>").unwrap().0.to_owned()
    };
    let one = || arm(folder, "sft", &[0], judged(0.54, -0.03, 0.02));
    let both = |accuracy| arm(folder, "sft+rft", &[0, 1], judged(accuracy, -0.03, 0.02));
    assert_eq!(short(&with(vec![one()], vec![])), "sft alone came to a result");
    let sure = with(vec![one(), both(0.8)], vec![difference("sft+rft", "sft", Some(1), [0.26, 0.2, 0.3])]);
    assert_eq!(short(&sure), "sft+rft is ahead");
    assert!(!page("few", &sure).contains("<section id=\"pairs\""), "the panels hold the only pair");
    // The first is the one that the pair is told against: it is turned.
    let turned = with(vec![one(), both(0.5)], vec![difference("sft+rft", "sft", Some(1), [-0.04, -0.08, -0.01])]);
    assert_eq!(short(&turned), "sft is ahead");
    let near = with(vec![one(), both(0.55)], vec![difference("sft+rft", "sft", Some(1), [0.01, -0.02, 0.03])]);
    assert_eq!(short(&near), "sft+rft is first, within noise of sft");
    assert!(page("few", &near).contains("Of them sft took the fewest tokens, 77,447."));
    let none = with(vec![arm(folder, "sft", &[0], judged(0.11, 0.0, 0.0))], vec![]);
    assert_eq!(short(&none), "No arm is better than the base beyond noise");
    let broken = with(vec![arm(folder, "sft", &[0], judged(0.9, 0.05, 0.0))], vec![]);
    assert_eq!(short(&broken), "Every arm broke a floor");
    let mut general = judged(0.5, 0.0, 0.0);
    general["rows"].as_array_mut().unwrap().drain(..2);
    assert_eq!(short(&with(vec![arm(folder, "sft", &[0], general)], vec![])), "Nothing to rank by");
    let refused = Tried { refused: Some("too little".into()), ..arm(folder, "sft", &[0], Value::Null) };
    assert_eq!(short(&with(vec![refused], vec![])), "No arm came to a result");
}

#[test]
fn no_text_becomes_markup_and_nothing_is_loaded() {
    const HOSTILE: &str =
        "<script>alert(1)</script><img src=x onerror=alert(2)> \"quoted\" 'single' & </svg></table> {{ 7*7 }}";
    let mut arms = arms(Path::new("none"));
    (arms.name, arms.kinds[2]) = (HOSTILE.into(), HOSTILE.into());
    (arms.arms[0].name, arms.arms[1].refused) = (HOSTILE.into(), Some(HOSTILE.into()));
    let page = arms.render().unwrap();
    assert!(page.contains("&lt;img") && page.contains("{{ 7*7 }}"));
    for forbidden in ["<script", "<img", "<link", "<iframe", "url(", "@import", "http:", "https:"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    for tag in page.split('<').filter_map(|part| part.split_once('>')).map(|(tag, _)| tag) {
        let bare: String = tag.split('"').step_by(2).collect();
        assert!(!bare.contains("src=") && !bare.contains(" on"), "<{tag}>");
    }
    assert!(page.contains("content=\"default-src 'none'; style-src 'unsafe-inline'\""));
}
