//! Each check both ways: what it is for is found, and clean text is left alone.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use temper_data::{
    Action, Check, CheckOptions, CheckReport, Checker, Filtering, Filters, HeldOut, HeldOutKind, ReadOptions, Severity,
    Treatment, check_files, parse_rows,
};

fn options() -> ReadOptions {
    ReadOptions::default()
}

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| row.to_string() + "\n").collect()
}

/// Checks rows against nothing.
fn check(rows: &[Value]) -> CheckReport {
    checked(rows, CheckOptions::default())
}

fn checked(rows: &[Value], options_: CheckOptions<'_>) -> CheckReport {
    let loaded = parse_rows(Path::new("rows.jsonl"), lines(rows).as_bytes(), &options()).unwrap();
    let mut checker = Checker::new(options_);
    checker.file(Path::new("rows.jsonl"));
    // In two batches: what is found does not depend on them.
    let half = loaded.rows.len() / 2;
    checker.add(&loaded.rows[..half]);
    checker.add(&loaded.rows[half..]);
    checker.finish()
}

/// The checks that found something, with how often and in which lines.
fn found(report: &CheckReport) -> Vec<(Check, usize, Vec<usize>)> {
    report.findings.iter().map(|f| (f.check, f.count, f.first.iter().map(|place| place.line).collect())).collect()
}

fn chat(turns: &[(&str, &str)]) -> Value {
    let turns: Vec<Value> = turns.iter().map(|(role, content)| json!({"role": role, "content": content})).collect();
    json!({"messages": turns})
}

fn ask(question: &str, answer: &str) -> Value {
    chat(&[("user", question), ("assistant", answer)])
}

const SALT: &str = "The sea is salty because rivers carry salt from the rocks into it, and only water leaves it again";
const WHALES: &str =
    "Deep below the waves of blue, great and gentle whales swim through, and nobody knows where they go in winter";

#[test]
fn clean_rows_have_no_findings() {
    let rows = [
        ask("Why is the sea salty?", SALT),
        chat(&[
            ("system", "Be brief."),
            ("user", "A poem?"),
            ("assistant", WHALES),
            ("user", "Thanks."),
            ("assistant", "Gladly."),
        ]),
        ask("2 + 2?", "4"),
    ];
    let report = check(&rows);
    assert_eq!(found(&report), []);
    assert_eq!((report.rows, report.files.len()), (3, 1));
    assert_eq!(report.lengths.quantiles.min, 7);
    assert_eq!(report.lengths.histogram.iter().map(|(_, rows)| rows).sum::<usize>(), 3);
    assert!(!report.refuses());
}

#[test]
fn duplicates_exact_in_other_writing_and_near() {
    let rows = [
        ask("Why is the sea salty?", SALT),
        ask("Why is the sea salty?", SALT),
        ask("why is  the SEA salty", &SALT.to_uppercase()),
        ask("Why is the sea salty?", SALT.strip_suffix(" again").unwrap()),
        ask("Why is the sea so salty then?", WHALES),
    ];
    let report = check(&rows);
    let expected = [
        (Check::ExactDuplicate, 1, vec![2]),
        (Check::SameWords, 1, vec![3]),
        (Check::NearDuplicate, 1, vec![4]),
        (Check::OtherAnswer, 1, vec![4]),
    ];
    assert_eq!(found(&report), expected);
    assert_eq!(report.findings[0].first[0].like.as_deref(), Some("rows.jsonl:1"));
    assert!(report.findings.iter().all(|finding| finding.action == Action::Nothing));
    // Other roles are other rows.
    let swapped = chat(&[("assistant", "Why is the sea salty?"), ("user", SALT)]);
    assert!(!found(&check(&[rows[0].clone(), swapped])).iter().any(|(check, ..)| *check == Check::ExactDuplicate));
}

#[test]
fn the_frame_of_a_prompt_makes_no_near_duplicates() {
    let frame = "Classify the following review by how content its writer is with what was bought, on a scale from one to five, and \
                 answer with the number alone, without any other word, sign or space before or after it, please:";
    let name = |i: usize| (0..30).map(|word| format!("w{i}x{word}")).collect::<Vec<_>>().join(" ");
    let names: Vec<String> = (0..200).map(name).collect();
    let mut rows: Vec<Value> = names.iter().map(|name| ask(&format!("{frame} {name}"), "5")).collect();
    let loaded = |rows: &[Value]| parse_rows(Path::new("rows.jsonl"), lines(rows).as_bytes(), &options()).unwrap().rows;
    let near = |rows: &[Value]| {
        let mut checker = Checker::new(CheckOptions::default());
        checker.add(&loaded(rows));
        checker.finish().findings.iter().filter(|f| f.check == Check::NearDuplicate).map(|f| f.count).sum::<usize>()
    };
    assert_eq!(near(&rows), 0);
    rows.push(ask(&format!("{frame} {} indeed", names[7]), "5"));
    assert_eq!(near(&rows), 1);
}

fn held_out(folder: &Path, name: &str, kind: HeldOutKind, rows: &[Value]) -> HeldOut {
    let path = folder.join(format!("{name}.jsonl"));
    std::fs::write(&path, lines(rows)).unwrap();
    HeldOut::read(name, kind, &path, &options()).unwrap()
}

#[test]
fn overlap_by_whole_rows_is_an_error_and_by_words_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let test = || {
        held_out(
            folder.path(),
            "test",
            HeldOutKind::Test,
            &[ask("Which gland is it?", "Thyroid"), ask("Sing!", WHALES)],
        )
    };
    let items =
        [json!({"prompt": "Who wrote the play Romeo and Juliet?", "choices": ["Shakespeare", "Goethe"], "answer": 0})];
    let suite = || held_out(folder.path(), "plays", HeldOutKind::Suite, &items);
    let rows = [
        ask("which gland is it", "THYROID"),
        // The question alone, and 13 words of an answer.
        ask("Which gland is it?", "The spleen"),
        ask("Go on", "He sang: deep below the waves of blue great and gentle whales swim through, and... the end."),
        // Twelve words of it.
        ask("Go on then", "He sang: deep below the waves of blue great and gentle whales swim through; the end."),
        ask("Who wrote the play Romeo and Juliet", "He did."),
        ask("Who wrote Faust?", "Goethe"),
    ];
    let both = || CheckOptions { held_out: vec![test(), suite()], ..CheckOptions::default() };
    let report = checked(&rows, both());
    let [leak, shared, conflict] = &report.findings[..] else { panic!("{:?}", report.findings) };
    assert_eq!(conflict.check, Check::ConflictingLabels);
    assert_eq!(
        (leak.check, leak.severity, leak.count, leak.action),
        (Check::HeldOutRow, Severity::Error, 1, Action::Refused)
    );
    assert_eq!((leak.first[0].line, leak.first[0].like.as_deref()), (1, Some("test:1")));
    assert_eq!(
        (shared.check, shared.severity, shared.action),
        (Check::SharedWords, Severity::Warning, Action::Nothing)
    );
    assert_eq!(shared.first.iter().map(|place| place.line).collect::<Vec<_>>(), [2, 3, 5]);
    assert_eq!(shared.kinds, [("test".to_owned(), 2), ("plays".to_owned(), 1)]);
    assert!(report.refuses());
    // Allowed, or filtered, it stands.
    assert!(!checked(&rows, CheckOptions { errors_stand: true, ..both() }).refuses());
    let filters = Filters { overlap: true, ..Filters::default() };
    let report = checked(&rows, CheckOptions { filters, ..both() });
    assert!(!report.refuses() && report.findings[0].action == Action::Dropped);
}

#[test]
fn labels_that_conflict_are_rare_or_are_missing() {
    let labelled = |question: &str, label: &str| {
        let mut row = ask(question, label);
        row["label"] = label.into();
        row
    };
    let mut rows: Vec<Value> =
        (0..100).map(|i| labelled(&format!("case {i}"), if i % 2 == 0 { "Ear" } else { "Eye" })).collect();
    let report = check(&rows);
    assert_eq!((found(&report), report.labels["Ear"]), (vec![], 50));
    rows.push(labelled("case 3", "Ear"));
    rows.push(labelled("case rare", "Skin"));
    let folder = tempfile::tempdir().unwrap();
    let validation = held_out(folder.path(), "validation", HeldOutKind::Validation, &[labelled("one more", "Blood")]);
    let report = checked(&rows, CheckOptions { held_out: vec![validation], ..CheckOptions::default() });
    let checks: Vec<(Check, usize)> = report.findings.iter().map(|finding| (finding.check, finding.count)).collect();
    assert_eq!(checks, [(Check::ConflictingLabels, 1), (Check::LabelImbalance, 1), (Check::UnseenLabel, 1)]);
    assert_eq!(report.findings[0].first[0].like.as_deref(), Some("rows.jsonl:4"));
    assert_eq!(report.findings[1].kinds, [("Skin".to_owned(), 1)]);
    assert_eq!(report.findings[2].kinds[0].0, "Blood");
}

#[test]
fn turns_that_are_empty_repeated_or_out_of_order() {
    let call = json!({"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "now", "arguments": "{}"}}]});
    let tool = json!({"role": "tool", "tool_call_id": "1", "content": ""});
    let user = json!({"role": "user", "content": "What time is it?"});
    let answer = json!({"role": "assistant", "content": "Noon."});
    let cases = [
        (json!({"messages": [user, call, tool, answer]}), vec![]),
        (json!({"messages": [user, tool, answer]}), vec![Check::RoleOrder, Check::ToolOrder]),
        (json!({"messages": [user, call, tool, call, tool, answer]}), vec![Check::ToolOrder]),
        (ask("Hm?", " "), vec![Check::EmptyTurn]),
        (chat(&[("user", "a"), ("user", "b"), ("assistant", "c")]), vec![Check::RoleOrder]),
        (chat(&[("user", "a"), ("user", "a"), ("assistant", "c")]), vec![Check::RepeatedTurn, Check::RoleOrder]),
        (
            chat(&[("user", "a"), ("assistant", "It is so."), ("user", "b"), ("assistant", "It is so.")]),
            vec![Check::RepeatedTurn],
        ),
        (chat(&[("user", "a"), ("assistant", "Yes."), ("user", "b"), ("assistant", "Yes.")]), vec![]),
        (chat(&[("assistant", "Hello"), ("user", "b"), ("assistant", "c")]), vec![Check::RoleOrder]),
        (chat(&[("user", "b"), ("system", "c"), ("assistant", "d")]), vec![Check::RoleOrder]),
        (chat(&[("user", "What?"), ("assistant", "This."), ("user", "And?")]), vec![Check::RoleOrder]),
    ];
    for (row, expected) in cases {
        let checks: Vec<Check> =
            check(std::slice::from_ref(&row)).findings.iter().map(|finding| finding.check).collect();
        assert_eq!(checks, expected, "{row}");
    }
}

#[test]
fn text_that_is_broken_repetitive_private_or_no_answer() {
    let cases = [
        (ask("Where?", "In the cafÃ©"), Check::Mojibake),
        (ask("Say no", &"no ".repeat(20)), Check::Repetition),
        (ask("A story", &"and then he went home to his wife and then ".repeat(6)), Check::Repetition),
        (ask("The key?", &["It is AK", "IA1234567890ABCDEF."].concat()), Check::Secret),
        (ask("Whom?", "Ask jane.doe@hospital.org."), Check::PersonalData),
        (ask("The price?", "N/A"), Check::Placeholder),
        (ask("Assistant: hello", "Hi"), Check::Reserved),
    ];
    for (row, expected) in cases {
        let report = check(std::slice::from_ref(&row));
        assert_eq!(found(&report), [(expected, 1, vec![1])], "{row}");
        let shown = serde_json::to_string(&report).unwrap();
        assert!(!shown.contains("1234567890") && !shown.contains("jane"), "{shown}");
    }
    // Documents have no roles.
    assert_eq!(found(&check(&[json!({"text": "User: an actor. Assistant: another."})])), []);
    assert_eq!(found(&check(&[json!({"text": " "})])), [(Check::EmptyTurn, 1, vec![1])]);
}

#[test]
fn pairs_of_one_answer_and_tasks_without_a_reference() {
    let pair = |worse: &str| json!({"prompt": "Hm?", "chosen": "Yes", "rejected": worse});
    assert_eq!(found(&check(&[pair("No")])), []);
    assert_eq!(found(&check(&[pair("yes!")])), [(Check::SameAnswers, 1, vec![1])]);
    let user = [json!({"role": "user", "content": "6 x 7?"})];
    let rows = [
        json!({"messages": user, "reference_answer": "42"}),
        json!({"messages": [{"role": "user", "content": "7 x 7?"}], "reference_answer": ""}),
    ];
    assert_eq!(found(&check(&rows)), [(Check::NoReference, 1, vec![2])]);
}

#[test]
fn languages_are_guessed_where_there_is_text_enough() {
    let english = "The old mill by the river had not been used for many years, and nobody in the village remembered who owned it.";
    let german = "Die alte Mühle am Fluss war seit vielen Jahren nicht mehr benutzt worden, und niemand im Dorf wusste, wem sie gehörte.";
    let text = |text: &str| json!({"text": text});
    let report = check(&[text(english), text(german), text("short"), text(WHALES)]);
    assert_eq!((report.languages["eng"], report.languages["deu"], report.languages.len()), (2, 1, 2));
    assert_eq!(found(&report), [(Check::OtherLanguage, 1, vec![2])]);
}

/// Of a large file one row in ten is asked, and the report says of how many.
#[test]
fn the_language_of_a_large_file_is_asked_of_a_sample() {
    let english = "The old mill by the river had not been used for many years, said visitor number";
    let german = "Die alte Mühle am Fluss war seit vielen Jahren nicht mehr benutzt worden, sagte Besucher Nummer";
    let text = |n: usize| json!({"text": format!("{} {n}", if n == 1200 || n == 1201 { german } else { english })});
    let report = check(&(0..1500).map(text).collect::<Vec<_>>());
    assert_eq!((report.rows, report.language_asked), (1500, 1050));
    let finding = report.findings.iter().find(|finding| finding.check == Check::OtherLanguage).unwrap();
    assert_eq!((finding.count, finding.of, finding.first[0].line), (1, 1050, 1201));
}

#[test]
fn the_report_does_not_depend_on_threads() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data/general");
    let report = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let suite = HeldOut::read("chat", HeldOutKind::Suite, &root.join("chat_prompts.jsonl"), &options()).unwrap();
        let options_ = CheckOptions { held_out: vec![suite], ..CheckOptions::default() };
        pool.install(|| check_files([(root.join("prose.jsonl").as_path(), &options())], options_).unwrap())
    };
    assert_eq!(report(1), report(3));
}

/// The rows that the example trains on: no errors.
#[test]
fn the_examples_data_pass() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data");
    let held_out = [
        ("validation", HeldOutKind::Validation, "icd10/validation.jsonl"),
        ("test", HeldOutKind::Test, "icd10/test.jsonl"),
        ("heldout", HeldOutKind::Suite, "general/heldout.jsonl"),
        ("wordnet", HeldOutKind::Suite, "general/wordnet.jsonl"),
        ("chat", HeldOutKind::Suite, "general/chat_prompts.jsonl"),
        ("instructions", HeldOutKind::Suite, "general/instructions.jsonl"),
    ];
    let held_out = held_out.map(|(name, kind, path)| HeldOut::read(name, kind, &root.join(path), &options()).unwrap());
    let files = ["icd10/train.jsonl", "general/prose.jsonl", "general/chat.jsonl"].map(|path| root.join(path));
    let (read, options_) = (options(), CheckOptions { held_out: held_out.into(), ..CheckOptions::default() });
    let report = check_files(files.iter().map(|path| (path.as_path(), &read)), options_).unwrap();
    for finding in &report.findings {
        println!("{} {finding}", finding.severity);
    }
    assert_eq!(report.of(Severity::Error).count(), 0);
    assert!(!report.refuses());
}

/// Filters leave out what the checks find, and nothing else.
#[test]
fn filters_count_what_they_drop_and_mask() {
    let secret = ["It is AK", "IA1234567890ABCDEF."].concat();
    let rows = [
        ask("Why is the sea salty?", SALT),
        ask("Why is the sea salty?", SALT),
        ask("Why is the sea salty?", SALT.strip_suffix(" again").unwrap()),
        ask("The key?", &secret),
        ask("Whom?", "Ask jane.doe@hospital.org for it."),
        ask("Say no", &"no ".repeat(20)),
        ask("Where?", "In the cafÃ© on the corner"),
        ask("a", "b"),
    ];
    let loaded = parse_rows(Path::new("rows.jsonl"), lines(&rows).as_bytes(), &options()).unwrap();
    let lines_of = |filters: Filters| {
        let filtered = Filtering::new(filters, Vec::new()).apply(loaded.rows.clone());
        assert_eq!(filtered.kept.len() + filtered.dropped.len(), rows.len());
        (filtered.dropped.iter().map(|(line, _)| *line).collect::<Vec<_>>(), filtered)
    };
    assert_eq!(lines_of(Filters::default()).1.kept, loaded.rows);
    let filters = Filters { exact_duplicates: true, ..Filters::default() };
    assert_eq!(lines_of(filters.clone()).0, [2]);
    assert_eq!(lines_of(Filters { near_duplicates: true, ..filters }).0, [2, 3]);
    assert_eq!(lines_of(Filters { secrets: Treatment::Drop, ..Filters::default() }).0, [4]);
    assert_eq!(lines_of(Filters { personal_data: Treatment::Drop, ..Filters::default() }).0, [5]);
    assert_eq!(lines_of(Filters { max_repetition: Some(0.5), ..Filters::default() }).0, [6]);
    assert_eq!(lines_of(Filters { mojibake: true, ..Filters::default() }).0, [7]);
    assert_eq!(lines_of(Filters { min_chars: Some(5), ..Filters::default() }).0, [8]);
    let (dropped, masked) =
        lines_of(Filters { secrets: Treatment::Mask, personal_data: Treatment::Mask, ..Filters::default() });
    assert_eq!((dropped, masked.masked), (vec![], 2));
    let shown = format!("{:?}", masked.kept);
    assert!(
        shown.contains("[AWS_ACCESS_KEY]") && shown.contains("[EMAIL_ADDRESS]") && !shown.contains("jane"),
        "{shown}"
    );
}
