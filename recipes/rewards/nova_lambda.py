"""A reward Lambda as Amazon Nova Forge calls it; Temper runs the file as it is.

Rows: {"messages": [..], "reference_answer": {"code": "E11.9"}}: does the reply end with the code?
Try it: temper reward test recipes/rewards/nova_lambda.py --rows recipes/rewards/codes.jsonl --reference-as '{reference_answer.code}'
"""

import re


def lambda_handler(event, context):
    return [grade(sample) for sample in event]


def grade(sample):
    reply = sample["messages"][-1]["content"]
    wanted = sample["reference_answer"]["code"]
    codes = re.findall(r"\b[A-Z]\d\d(?:\.\d{1,2})?\b", reply)
    right = bool(codes) and codes[-1] == wanted
    chapter = bool(codes) and codes[-1][0] == wanted[0]
    return {
        "id": sample["id"],
        "aggregate_reward_score": 1.0 if right else 0.1 * chapter,
        "metrics_list": [
            {"name": "right", "value": float(right), "type": "Reward"},
            {"name": "chapter", "value": float(chapter), "type": "Metric"},
        ],
    }
