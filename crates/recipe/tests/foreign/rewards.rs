//! Reward files, looked at without running them.

use temper_recipe::foreign::{Tool, check_reward};

fn rules(text: &str, tool: Tool) -> Vec<&'static str> {
    check_reward(text, tool).iter().map(|finding| finding.rule).collect()
}

const NOVA: &str = r#"
def lambda_handler(event, context):
    results = []
    for sample in event:
        right = sample["messages"][-1]["content"] == sample["reference_answer"]
        results.append({"id": sample["id"], "aggregate_reward_score": 1.0 if right else 0.0})
    return results
"#;

const TRL: &str = "
def reward(completions, answer, **kwargs):
    return [1.0 if c == a else 0.0 for c, a in zip(completions, answer)]
";

#[test]
fn a_reward_that_keeps_its_contract() {
    assert!(rules(NOVA, Tool::Nova).is_empty(), "{:?}", check_reward(NOVA, Tool::Nova));
    assert!(rules("def reward(completion, **row):\n    return 1.0\n", Tool::Temper).is_empty());
    assert!(rules(NOVA, Tool::Temper).is_empty());
    assert!(rules(TRL, Tool::Trl).is_empty(), "{:?}", check_reward(TRL, Tool::Trl));
}

#[test]
fn a_reward_that_does_not() {
    assert_eq!(rules("def score(x):\n    return 1\n", Tool::Temper), ["reward-handler"]);
    assert!(rules("def score(x):\n    return 1\n", Tool::Nova).contains(&"reward-handler"));
    assert_eq!(rules(&NOVA.replace("event, context", "event"), Tool::Nova), ["reward-handler"]);
    assert_eq!(
        rules(&NOVA.replace("return results", "return {\"statusCode\": 200, \"body\": results}"), Tool::Nova),
        ["reward-return"]
    );
    assert_eq!(rules(&NOVA.replace("    return results\n", ""), Tool::Nova), ["reward-return"]);
    assert_eq!(rules(&NOVA.replace("aggregate_reward_score", "score"), Tool::Nova), ["reward-return"]);
    assert_eq!(rules(&NOVA.replace("reference_answer", "gold"), Tool::Nova), ["reward-reference"]);
    let silent =
        NOVA.replace("    return results", "    try:\n        pass\n    except:\n        pass\n    return results");
    assert_eq!(rules(&silent, Tool::Nova), ["reward-silent"]);
    assert_eq!(rules(&NOVA.replace("1.0 if right", "random.random() if right"), Tool::Nova), ["reward-random"]);
    assert_eq!(
        rules(&NOVA.replace("    results = []", "    time.sleep(5)\n    results = []"), Tool::Nova),
        ["reward-slow"]
    );
    assert_eq!(rules("def reward(completions, **kwargs):\n    return 1.0\n", Tool::Trl), ["reward-return"]);
    assert_eq!(rules("def reward(completions):\n    return [1.0]\n", Tool::Trl), ["reward-handler"]);
    assert_eq!(rules("def reward(prompts, **kwargs):\n    return [1.0]\n", Tool::Axolotl), ["reward-handler"]);
}
