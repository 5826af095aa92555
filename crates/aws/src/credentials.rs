//! Credentials by AWS's own chain: environment, profile files, container, machine.
//! docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
//!
//! Left out are the providers that must ask another service first (IAM Identity Center, roles to assume, web identities): where the
//! chain comes to one, it says so, and which command of AWS's own turns it into credentials that it takes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;

use crate::error::Error;

/// What the chain looks at; a test gives its own.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The value of an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The user's folder, in which `.aws` lies.
    pub home: Option<&'a Path>,
    /// The profile that was asked for; it goes before the environment.
    pub profile: Option<&'a str>,
}

/// Who calls.
#[derive(Clone, PartialEq)]
pub struct Credentials {
    pub(crate) key: String,
    pub(crate) secret: String,
    pub(crate) token: Option<String>,
    /// Where they were found.
    pub source: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Credentials").field("key", &self.key).field("source", &self.source).finish_non_exhaustive()
    }
}

/// What AWS answers at on a machine of EC2, and in a container of ECS.
const MACHINE: &str = "http://169.254.169.254";
const CONTAINER: &str = "http://169.254.170.2";
/// Off AWS nobody answers there.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);
const EXPORT: &str = "run `aws configure export-credentials --format env` and set what it prints";

fn refused(problem: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::Credentials { problem: problem.into(), hint: hint.into() }
}

impl Surroundings<'_> {
    /// An environment variable that is set to something.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    fn file(&self, variable: &str, name: &str) -> Option<PathBuf> {
        self.get(variable).map(PathBuf::from).or_else(|| Some(self.home?.join(".aws").join(name)))
    }

    fn profile_name(&self) -> String {
        self.profile.map(str::to_owned).or_else(|| self.get("AWS_PROFILE")).unwrap_or_else(|| "default".to_owned())
    }

    /// The settings of the profile: those of the file of credentials go before those of the other.
    fn settings(&self) -> Result<Vec<(String, String)>, Error> {
        let name = self.profile_name();
        let mut settings = Vec::new();
        for (variable, file, section) in [
            ("AWS_SHARED_CREDENTIALS_FILE", "credentials", name.clone()),
            ("AWS_CONFIG_FILE", "config", if name == "default" { name.clone() } else { format!("profile {name}") }),
        ] {
            let Some(path) = self.file(variable, file) else { continue };
            match std::fs::read_to_string(&path) {
                Ok(text) => settings.extend(section_of(&text, &section)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => (),
                Err(source) => return Err(Error::Io { action: "read", path, source }),
            }
        }
        let asked = self.profile.is_some() || self.get("AWS_PROFILE").is_some();
        if settings.is_empty() && asked {
            let hint = "`aws configure list-profiles` names those there are";
            return Err(refused(format!("there is no profile `{name}` in AWS's files"), hint));
        }
        Ok(settings)
    }

    /// The region: given, else of the environment, else of the profile.
    ///
    /// # Errors
    /// Where none is said, or the profile cannot be read.
    pub fn region(&self, given: Option<&str>) -> Result<String, Error> {
        let settings = self.settings()?;
        let of_profile = settings.iter().find(|(key, _)| key == "region").map(|(_, value)| value.clone());
        let region = given.map(str::to_owned).or_else(|| self.get("AWS_REGION"));
        region.or_else(|| self.get("AWS_DEFAULT_REGION")).or(of_profile).ok_or_else(|| {
            crate::error::unfit("no region is said", "--region, AWS_REGION, or `region` in the profile, as us-east-1")
        })
    }

    /// The first credentials of the chain.
    ///
    /// # Errors
    /// Where there are none, where those that are there are not whole, and where they come from a provider that is left out.
    pub fn credentials(&self) -> Result<Credentials, Error> {
        if self.profile.is_none()
            && let Some(key) = self.get("AWS_ACCESS_KEY_ID")
        {
            let secret = self.get("AWS_SECRET_ACCESS_KEY").ok_or_else(|| {
                refused("AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not", "set both, or neither")
            })?;
            let token = self.get("AWS_SESSION_TOKEN");
            return Ok(Credentials { key, secret, token, source: "the environment".to_owned() });
        }
        if self.profile.is_none() && self.get("AWS_WEB_IDENTITY_TOKEN_FILE").is_some() {
            return Err(refused("a web identity must be exchanged for a role first, which Temper does not do", EXPORT));
        }
        if let Some(found) = self.of_profile()? {
            return Ok(found);
        }
        if let Some(found) = self.of_container()? {
            return Ok(found);
        }
        if let Some(found) = self.of_machine()? {
            return Ok(found);
        }
        Err(refused(
            "no credentials of AWS: not in the environment, nor in ~/.aws, nor from a container or machine of AWS",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws configure`; --dry-run needs none",
        ))
    }

    fn of_profile(&self) -> Result<Option<Credentials>, Error> {
        let settings = self.settings()?;
        let get = |name: &str| settings.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let source = format!("profile `{}`", self.profile_name());
        if let Some(key) = get("aws_access_key_id") {
            let secret = get("aws_secret_access_key").ok_or_else(|| {
                refused(
                    format!("{source} has aws_access_key_id without aws_secret_access_key"),
                    "`aws configure` sets both",
                )
            })?;
            return Ok(Some(Credentials { key, secret, token: get("aws_session_token"), source }));
        }
        if let Some(command) = get("credential_process") {
            let source = format!("{source}, credential_process");
            return of_process(&command).and_then(|reply| of_reply(&reply, "SessionToken", source)).map(Some);
        }
        let asks_first = ["sso_session", "sso_start_url", "role_arn", "web_identity_token_file", "login_session"];
        match asks_first.iter().find(|key| get(key).is_some()) {
            Some(key) => {
                Err(refused(format!("{source} gets credentials by `{key}`, which Temper does not follow"), EXPORT))
            }
            None => Ok(None),
        }
    }

    fn of_container(&self) -> Result<Option<Credentials>, Error> {
        let url = match (
            self.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
            self.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ) {
            (Some(path), _) => format!("{CONTAINER}{path}"),
            (None, Some(url)) => url,
            (None, None) => return Ok(None),
        };
        // A token must not go in the clear to anyone but this machine and AWS's own addresses.
        let near = [
            "http://127.",
            "http://localhost",
            "http://[::1]",
            CONTAINER,
            "http://169.254.170.23",
            "http://[fd00:ec2::23]",
        ];
        if !url.starts_with("https://") && !near.iter().any(|start| url.starts_with(start)) {
            return Err(refused(
                format!("AWS_CONTAINER_CREDENTIALS_FULL_URI leads to {url}"),
                "https, or this machine's own address",
            ));
        }
        let token = match self.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            Some(path) => {
                let path = PathBuf::from(path);
                let read = std::fs::read_to_string(&path);
                Some(read.map_err(|source| Error::Io { action: "read", path, source })?.trim().to_owned())
            }
            None => self.get("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
        };
        let mut request = near_agent(Duration::from_secs(5)).get(&url);
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let reply = request.call().and_then(|mut reply| reply.body_mut().read_to_string());
        let reply =
            reply.map_err(|error| refused(format!("the container gave no credentials: {url}: {error}"), EXPORT))?;
        of_reply(&reply, "Token", "the container".to_owned()).map(Some)
    }

    fn of_machine(&self) -> Result<Option<Credentials>, Error> {
        if self.get("AWS_EC2_METADATA_DISABLED").is_some_and(|off| off.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let base = self.get("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| MACHINE.to_owned());
        let base = base.trim_end_matches('/');
        let agent = near_agent(METADATA_TIMEOUT);
        let token = agent.put(format!("{base}/latest/api/token")).header("x-aws-ec2-metadata-token-ttl-seconds", "300");
        // Whoever does not answer here is no machine of AWS.
        let Ok(token) = token.send_empty().and_then(|mut reply| reply.body_mut().read_to_string()) else {
            return Ok(None);
        };
        let ask = |path: &str| {
            let request = agent.get(format!("{base}/latest/meta-data/iam/security-credentials/{path}"));
            request
                .header("x-aws-ec2-metadata-token", &token)
                .call()
                .and_then(|mut reply| reply.body_mut().read_to_string())
        };
        let Ok(role) = ask("") else { return Ok(None) };
        let Some(role) = role.lines().next() else { return Ok(None) };
        let reply = ask(role).map_err(|error| refused(format!("the machine's role `{role}`: {error}"), EXPORT))?;
        of_reply(&reply, "Token", format!("the machine's role `{role}`")).map(Some)
    }
}

/// A client for addresses that no proxy leads to.
fn near_agent(timeout: Duration) -> Agent {
    Agent::config_builder().proxy(None).timeout_global(Some(timeout)).build().into()
}

/// What a program prints that gives credentials.
fn of_process(command: &str) -> Result<String, Error> {
    let (shell, flag) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let fail = |why: String| refused(format!("credential_process `{command}`: {why}"), "run it by hand to see why");
    let output =
        std::process::Command::new(shell).args([flag, command]).stderr(std::process::Stdio::inherit()).output();
    let output = output.map_err(|error| fail(error.to_string()))?;
    if !output.status.success() {
        return Err(fail(output.status.to_string()));
    }
    String::from_utf8(output.stdout).map_err(|_| fail("what it prints is no UTF-8".to_owned()))
}

/// Credentials as JSON, as programs, containers and machines give them.
fn of_reply(reply: &str, token: &str, source: String) -> Result<Credentials, Error> {
    let value: Value = serde_json::from_str(reply).unwrap_or_default();
    let text = |name: &str| value[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    match (text("AccessKeyId"), text("SecretAccessKey")) {
        (Some(key), Some(secret)) => Ok(Credentials { key, secret, token: text(token), source }),
        _ => Err(refused(format!("{source} gave no AccessKeyId and SecretAccessKey"), EXPORT)),
    }
}

/// Keys and values of a section of an INI file. Nested values, which begin with spaces, are none of ours.
fn section_of(text: &str, section: &str) -> Vec<(String, String)> {
    let mut inside = false;
    let mut settings = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with([' ', '\t', '#', ';'])) {
        if let Some(name) = line.trim_end().strip_prefix('[').and_then(|line| line.split(']').next()) {
            inside = name.split_whitespace().eq(section.split_whitespace());
        } else if inside && let Some((key, value)) = line.split_once('=') {
            settings.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(variables: &[(&str, &str)], home: Option<&Path>, profile: Option<&str>) -> Result<Credentials, Error> {
        let variable = |name: &str| {
            let set = variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            set.or_else(|| (name == "AWS_EC2_METADATA_DISABLED").then(|| "true".to_owned()))
        };
        Surroundings { variable: &variable, home, profile }.credentials()
    }

    fn home(credentials: &str, config: &str) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        std::fs::write(home.path().join(".aws/credentials"), credentials).unwrap();
        std::fs::write(home.path().join(".aws/config"), config).unwrap();
        home
    }

    #[test]
    fn the_environment_goes_first_and_a_profile_that_is_asked_for_before_it() {
        let home = home(
            "[default]\naws_access_key_id = A\naws_secret_access_key=B\n[work]\naws_access_key_id=C\naws_secret_access_key=D\naws_session_token=E\n",
            "",
        );
        let environment = [("AWS_ACCESS_KEY_ID", "K"), ("AWS_SECRET_ACCESS_KEY", "S"), ("AWS_SESSION_TOKEN", "T")];
        let found = chain(&environment, Some(home.path()), None).unwrap();
        assert_eq!((found.key.as_str(), found.token.as_deref()), ("K", Some("T")));
        let found = chain(&environment, Some(home.path()), Some("work")).unwrap();
        assert_eq!((found.key.as_str(), found.secret.as_str(), found.token.as_deref()), ("C", "D", Some("E")));
        assert_eq!(chain(&[], Some(home.path()), None).unwrap().key, "A");
        assert!(!format!("{found:?}").contains('D'), "a secret is never shown: {found:?}");
    }

    #[test]
    fn a_process_and_a_region_are_read_from_the_config_file() {
        let printed = r#"{"Version": 1, "AccessKeyId": "P", "SecretAccessKey": "Q", "SessionToken": "R"}"#;
        let config =
            format!("[profile tool]\nregion = eu-west-1\ns3 =\n  region = no\ncredential_process = echo '{printed}'\n");
        let home = home("", &config);
        let surroundings = Surroundings { variable: &|_| None, home: Some(home.path()), profile: Some("tool") };
        assert_eq!(surroundings.region(None).unwrap(), "eu-west-1");
        assert_eq!(surroundings.region(Some("us-east-1")).unwrap(), "us-east-1");
        if cfg!(unix) {
            assert_eq!(surroundings.credentials().unwrap().token.as_deref(), Some("R"));
        }
    }

    #[test]
    fn what_is_not_followed_is_said() {
        let home = home("", "[default]\nsso_session = x\n");
        let none: &[(&str, &str)] = &[];
        for (variables, profile, expected) in [
            (none, None, "by `sso_session`"),
            (&[("AWS_WEB_IDENTITY_TOKEN_FILE", "x")][..], None, "web identity"),
            (&[("AWS_ACCESS_KEY_ID", "x")][..], None, "AWS_SECRET_ACCESS_KEY is not"),
            (none, Some("none"), "no profile `none`"),
        ] {
            let said = chain(variables, Some(home.path()), profile).unwrap_err().to_string();
            assert!(said.contains(expected), "{said}");
        }
        let said = chain(&[], None, None).unwrap_err().to_string();
        assert!(said.starts_with("no credentials of AWS"), "{said}");
        let said = chain(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.org/x")], None, None).unwrap_err();
        assert!(said.to_string().contains("leads to http://example.org/x"), "{said}");
    }
}
