//! `cargo xtask e2e NAME`: what Temper writes, read by the tools it is written for.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use temper_run::ScalarLog;

use crate::bench::{beside_optuna, shipped_binary};
use crate::cache::{folder, fresh_venv, gemma as gemma_file, peers_python, python, test_database, test_model};
use crate::command::{cargo, check, output, program, root};

/// The kinds of adapters that PEFT reads, as changes of the small run.
const ADAPTERS: [(&str, &[&str]); 4] = [
    ("lora", &[]),
    ("rslora", &["stages.0.use_rslora=true"]),
    ("dora", &["stages.0.use_dora=true"]),
    ("tables", &["stages.0.modules_to_save=[embed_tokens, lm_head]"]),
];

/// The adapter and the merged model of a run, loaded and run by transformers + PEFT: `bench/peft/check.py`. Of a small run of
/// each kind of adapter, or of the run whose folders are given.
pub fn peft(args: &[&str]) -> Result<()> {
    let peer = |folders: Option<&Path>| {
        let mut peer = program(peers_python()?)?;
        peer.arg("bench/peft/check.py");
        if !args.contains(&"--help") {
            peer.arg("--temper").arg(shipped_binary()?);
            peer.arg("--base").arg(test_model()?);
            peer.args(["--golden", "tests/golden/smollm2/smollm2_ref.json"]);
        }
        if let Some(run) = folders {
            peer.arg("--adapter").arg(run.join("adapter")).arg("--merged").arg(run.join("merged"));
        }
        check(peer.args(args))
    };
    if args.iter().any(|arg| ["--help", "--adapter", "--merged"].contains(arg)) {
        return peer(None);
    }
    let folder = scratch("peft")?;
    for (kind, changes) in ADAPTERS {
        println!("xtask: {kind}");
        let own = folder.join(kind);
        fs::create_dir_all(&own).with_context(|| format!("cannot make {}", own.display()))?;
        let mut run = program(shipped_binary()?)?;
        run.args(["run", "--no-cache", "--set", "evaluation=null"]).arg(small_recipe(&own)?);
        for change in changes {
            run.args(["--set", change]);
        }
        check(&mut run)?;
        peer(Some(&own.join("run")))?;
    }
    Ok(())
}

/// The tiny models of `tests/golden/architectures`, read and written by Temper, loaded by transformers: `make.py --check` there.
pub fn architectures() -> Result<()> {
    let scratch = scratch("architectures")?;
    let mut tests = cargo()?;
    tests.args(["test", "--package", "temper-train", "--test", "architectures"]);
    check(tests.env("TEMPER_KEEP_ARCHITECTURES", &scratch))?;
    let mut peer = program(peers_python()?)?;
    check(peer.arg("tests/golden/architectures/make.py").arg("--check").arg(&scratch))
}

/// The real Gemma 3 270M against transformers' numbers: the tests of `crates/train/tests/gemma.rs`.
pub fn gemma() -> Result<()> {
    let mut tests = cargo()?;
    tests.args(["test", "--package", "temper-train", "--test", "gemma", "--", "--nocapture", "--test-threads=1"]);
    check(tests.env("TEMPER_TEST_GEMMA", gemma_file()?))
}

/// The GGUF files of a small run, loaded by transformers and, where it is installed, by llama.cpp: `bench/gguf/check.py`.
pub fn gguf(args: &[&str]) -> Result<()> {
    let run = small_run(&scratch("gguf")?)?;
    let (binary, mut files) = (shipped_binary()?, Vec::new());
    for kind in ["f32", "f16", "bf16", "q8_0", "q4_0"] {
        check(program(&binary)?.arg("export").arg(&run).args(["--to", "gguf", "--type", kind]))?;
        let folder = run.join(format!("gguf-{kind}"));
        files.extend(fs::read_dir(&folder)?.flatten().map(|entry| entry.path()));
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "gguf"));
    let mut peer = program(peers_python()?)?;
    peer.arg("bench/gguf/check.py").arg("--temper").arg(&binary).arg("--merged").arg(run.join("merged"));
    check(peer.arg("--gguf").args(files).args(args))
}

/// The TensorBoard events of a small run, and of one that was resumed, read by TensorBoard: `bench/tensorboard/check.py`.
pub fn tensorboard() -> Result<()> {
    let scratch = scratch("tensorboard")?;
    let run = small_run(&scratch)?;
    // A run that was stopped after step 5, whose last checkpoint is that of step 2.
    let resumed = scratch.join("resumed");
    let mut log = ScalarLog::start(&resumed, 0)?;
    for step in 1..=5 {
        log.append(step, &[("train/loss", 10.0 * step as f64)])?;
    }
    let mut log = ScalarLog::start(&resumed, 3)?;
    for step in 3..=6 {
        log.append(step, &[("train/loss", 20.0 * step as f64)])?;
    }
    let mut peer = program(python("tensorboard", "bench/tensorboard/requirements.txt")?)?;
    peer.arg("bench/tensorboard/check.py").arg("--run").arg(run).arg("--resumed").arg(resumed);
    check(&mut peer)
}

/// The report of a run, or of a small one that is made for it, in a browser: `bench/report/check.py`.
pub fn report(args: &[&str]) -> Result<()> {
    let scratch = scratch("report")?;
    let (run, rest) = match args {
        [run, rest @ ..] if !run.starts_with('-') => (root()?.join(run), rest),
        rest => (small_run(&scratch)?, rest),
    };
    let page = scratch.join("report.html");
    check(program(shipped_binary()?)?.arg("report").arg(run).arg("--output").arg(&page))?;
    let mut browser = program(python("report", "bench/report/requirements.txt")?)?;
    browser.arg("bench/report/check.py").arg("--report").arg(page).arg("--out").arg(scratch.join("pictures"));
    check(browser.args(rest))
}

/// Studies of the store in Optuna and its dashboard, on SQLite and PostgreSQL: `bench/search/optuna_store.py`.
pub fn optuna(args: &[&str]) -> Result<()> {
    test_database()?;
    beside_optuna("optuna_store.py", args, &[("--out", scratch("optuna")?)])
}

/// A search whose trials are runs of TRL: `recipes/programs/trl.yaml` on a CPU, few steps each. Some trials must be paused at a rung, one be
/// gone on with from TRL's own checkpoint, and one come to its end.
pub fn trl(args: &[&str]) -> Result<()> {
    let (binary, python, folder) = (shipped_binary()?, peers_python()?, scratch("trl")?);
    let mut export = program(&binary)?;
    export.arg("export").arg(test_model()?).args(["--to", "merged", "--type", "f32", "--output"]).arg(&folder);
    check(&mut export)?;
    let environment = python.parent().context("the peers' Python lies in no folder")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(environment.to_owned()).chain(std::env::split_paths(&path)))?;
    let study = folder.join("study");
    let command = "[python3, train_trl.py, '--output_dir={dir}', '--seed={seed}', '--resume={resume}', --max_steps=8, --eval_steps=2]";
    let mut search = program(&binary)?;
    search.args(["tune", "recipes/programs/trl.yaml", "--trials", "5", "--json"]).args(args);
    search.arg("--set").arg(format!("tune.trainer.command={command}")).args(["--set", "tune.trainer.steps=8"]);
    search.args([
        "--set",
        "tune.sampler=random",
        "--set",
        "tune.space.warmup_steps.high=4",
        "--set",
        "tune.space.warmup_steps.around=1",
    ]);
    search.arg("--set").arg(format!("output={}", study.display()));
    search.env("PATH", path).env("MODEL", folder.join("merged"));
    let answer: serde_json::Value = serde_json::from_str(&output(&mut search)?)?;
    let complete = answer["complete"].as_u64().unwrap_or(0);
    println!("{} trials, {complete} to their full length; {}", answer["trials"], answer["answer"]["reason"]);
    let trials = fs::read_dir(study.join("trials")).context("the study has no trials")?;
    let trials: Vec<PathBuf> = trials.flatten().map(|trial| trial.path()).collect();
    let told = |trial: &PathBuf| fs::read_to_string(trial.join("seed-42/stdout.log")).unwrap_or_default();
    let paused = trials.iter().filter(|trial| told(trial).contains("checkpoint")).count();
    println!("{paused} trials told of a checkpoint");
    if complete == 0 || paused == 0 {
        bail!("expected a trial that came to its end, and one that was paused");
    }
    Ok(())
}

/// Jobs of Nova Forge, sent to moto on this machine: the tests of `crates/aws/tests/moto.rs`.
pub fn moto() -> Result<()> {
    let python = python("moto", "bench/moto-requirements.txt")?;
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let address = format!("127.0.0.1:{port}");
    let log = scratch("moto")?.join("moto.log");
    let mut server = program(python.with_file_name("moto_server"))?
        .args(["-H", "127.0.0.1", "-p", &port.to_string()])
        .stdout(fs::File::create(&log)?)
        .stderr(fs::File::create(log.with_extension("err"))?)
        .spawn()
        .context("cannot start moto")?;
    let begun = std::time::Instant::now();
    while std::net::TcpStream::connect(&address).is_err() && begun.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut tests = cargo()?;
    tests.args([
        "test",
        "--release",
        "--package",
        "temper-aws",
        "--test",
        "moto",
        "--",
        "--nocapture",
        "--test-threads=1",
    ]);
    let outcome = check(tests.env("TEMPER_TEST_MOTO", format!("http://{address}")));
    server.kill().context("cannot end moto")?;
    server.wait()?;
    outcome
}

/// The pages that the tests of `temper-report` make of made-up studies, in a browser: `bench/report/check.py`.
pub fn study(args: &[&str]) -> Result<()> {
    let scratch = scratch("study")?;
    let mut tests = cargo()?;
    tests.args(["test", "--release", "--package", "temper-report", "--test", "study"]);
    check(tests.env("TEMPER_STUDY_PAGES", &scratch))?;
    for name in ["whole", "large", "one", "none", "empty"] {
        let mut browser = program(python("report", "bench/report/requirements.txt")?)?;
        browser.arg("bench/report/check.py").arg("--report").arg(scratch.join(format!("{name}.html")));
        check(browser.arg("--out").arg(scratch.join(name)).args(args))?;
    }
    Ok(())
}

/// The tests of temper-kernels on an emulated processor with AVX-512: `bench/avx512/check.py`.
pub fn avx512(args: &[&str]) -> Result<()> {
    let mut emulation = program(python("avx512", "bench/avx512/requirements.txt")?)?;
    emulation.arg("bench/avx512/check.py").arg("--cache").arg(folder()?.join("avx512"));
    check(emulation.arg("--work").arg(scratch("avx512")?).args(args))
}

/// `crates/kernels-cube`, which is no member of the workspace: format, lints, and the tests on the machine's GPU, or on
/// Mesa's software Vulkan where there is none. Its build stays below `target/cube`.
pub fn cube(args: &[&str]) -> Result<()> {
    let drivers = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
    let has_driver = |folder: &&str| fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some());
    if cfg!(target_os = "linux") && !drivers.iter().any(has_driver) {
        println!("xtask: no Vulkan driver in {}: installing Mesa's", drivers.join(" or "));
        let mut apt = program("apt-get")?;
        check(apt.args(["install", "--yes", "--quiet", "mesa-vulkan-drivers", "libvulkan1"]))
            .context("hint: as root, after `apt-get update`; or install any Vulkan driver by hand")?;
    }
    let task = |words: &[&str]| {
        let mut cargo = cargo()?;
        cargo.args(words).env("CARGO_TARGET_DIR", root()?.join("target/cube"));
        Ok::<_, anyhow::Error>(cargo)
    };
    let manifest = "crates/kernels-cube/Cargo.toml";
    check(&mut task(&["fmt", "--check", "--manifest-path", manifest])?)?;
    let lints = ["clippy", "--locked", "--manifest-path", manifest, "--all-targets", "--", "-D", "warnings"];
    check(&mut task(&lints)?)?;
    check(task(&["test", "--locked", "--manifest-path", manifest])?.args(args))
}

/// An empty folder below `target/`.
fn scratch(name: &str) -> Result<PathBuf> {
    let folder = root()?.join("target/e2e").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Exit codes of temper.
const INTERRUPTED: i32 = 3;
const REFUSED: i32 = 4;

/// The recipe of eight steps on the rows of `data/tests`, in `folder`; its run goes to `folder/run`.
fn small_recipe(folder: &Path) -> Result<PathBuf> {
    let rows = root()?.join("data/tests");
    let (rows, output) = (rows.display(), folder.join("run"));
    let recipe = format!(
        "name: small
base: {}
output: {}
stages:
  - kind: sft
    train: {rows}/tiny_train.jsonl
    validation: {rows}/tiny_validation.jsonl
    mix: {{unit: samples, domain: 75, general: [{{name: prose, path: {rows}/tiny_prose.jsonl, share: 100}}]}}
    max_length: 256
    global_batch_size: 4
    max_steps: 8
    learning_rate: 1e-3
    eval_steps: 4
evaluation:
  domain:
    task: classification
    validation: {rows}/tiny_validation.jsonl
    test: {rows}/tiny_test.jsonl
    labels: [Neoplasm, Eye, Respiratory, Pregnancy]
  general:
    - {{name: heldout, kind: text_loss, path: {rows}/tiny_heldout.jsonl}}
    - {{name: wordnet, kind: multiple_choice, path: {rows}/tiny_mc.jsonl}}
    - {{name: instructions, kind: instruction_following, path: {rows}/tiny_instructions.jsonl, max_new_tokens: 16}}
  floors:
    heldout: {{max_increase_percent: 2}}
",
        test_model()?.display(),
        output.display()
    );
    let file = folder.join("recipe.yaml");
    fs::write(&file, recipe).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// The small recipe, stopped and resumed on the way, then judged. A verdict of so few rows says nothing, so any is taken.
fn small_run(folder: &Path) -> Result<PathBuf> {
    let (file, output, binary) = (small_recipe(folder)?, folder.join("run"), shipped_binary()?);
    let mut run = program(&binary)?.args(["run", "--no-cache"]).arg(&file).spawn().context("cannot start temper")?;
    // Ctrl-C after a few steps, so that the run folder is that of a run which was stopped and went on.
    let metrics = output.join("metrics.jsonl");
    let status = loop {
        if let Some(status) = run.try_wait().context("cannot wait for temper")? {
            break status;
        }
        if fs::read_to_string(&metrics).is_ok_and(|text| text.contains("\"step\":3,")) {
            check(program("kill")?.args(["-INT", &run.id().to_string()]))?;
            break run.wait().context("cannot wait for temper")?;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let status = match status.code() {
        Some(INTERRUPTED) => program(&binary)?.args(["resume", "--no-cache"]).arg(&output).status()?,
        _ => status,
    };
    if !matches!(status.code(), Some(0 | REFUSED)) {
        bail!("the small run failed: {status}");
    }
    Ok(output)
}

/// The wheel, built by a pinned maturin, installed into a fresh environment, and used there as a user would: the version, and
/// the plan of a recipe over the test model.
pub fn wheel() -> Result<()> {
    let maturin = fresh_venv("maturin")?;
    check(program(&maturin)?.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--requirement",
        "bench/wheel-requirements.txt",
    ]))?;
    let dist = root()?.join("target/wheels");
    if dist.exists() {
        fs::remove_dir_all(&dist).with_context(|| format!("cannot remove {}", dist.display()))?;
    }
    check(program(&maturin)?.args(["-m", "maturin", "build", "--release", "--locked", "--out"]).arg(&dist))?;
    let wheels: Vec<_> = fs::read_dir(&dist)?.collect::<std::io::Result<Vec<_>>>()?;
    let [wheel] = &wheels[..] else { bail!("expected one wheel in {}, found {}", dist.display(), wheels.len()) };
    let size = wheel.metadata()?.len() as f64 / f64::from(1 << 20);
    println!("xtask: {} of {size:.1} MiB", wheel.path().display());

    let python = fresh_venv("wheel")?;
    check(program(&python)?.args(["-m", "pip", "install", "--quiet", "--no-index"]).arg(wheel.path()))?;
    let temper = python.with_file_name("temper");
    let version = output(program(&temper)?.arg("--version"))?;
    let expected = format!("temper {}\n", env!("CARGO_PKG_VERSION"));
    if version != expected {
        bail!("the installed binary says {version:?}, expected {expected:?}");
    }
    let base = format!("base={}", test_model()?.display());
    let plan = output(program(&temper)?.args(["plan", "recipes/icd10.yaml", "--set", &base, "--offline"]))?;
    if !plan.contains("plan of icd10") {
        bail!("the installed binary planned something else:\n{plan}");
    }
    println!("xtask: the wheel installs, says its version and plans recipes/icd10.yaml");
    Ok(())
}
