"""Golden scores of words and ranks: `words.json`.

usage: python make.py        (rouge-score 0.1.2, transformers 4.57.1, scipy 1.17.1, scikit-learn 1.9.1)

Pairs of texts are drawn from a small vocabulary with articles, punctuation and case, so that overlaps, repeats and empty sides all occur.
ROUGE-L is that of `rouge_score` without a stemmer, F1 that of SQuAD's script as transformers had it. Ranks: Spearman's correlation by scipy,
the area under the curve by scikit-learn.
"""

import json
import pathlib
import random

from rouge_score import rouge_scorer
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from transformers.data.metrics.squad_metrics import compute_f1

HERE = pathlib.Path(__file__).resolve().parent
WORDS = ["the", "a", "An", "cat", "Cat,", "sat", "on", "mat.", "3.5", "well-known", "U.S.", "it's", "(x)", "_y_", "The!", "...", "42"]


def text(draw):
    return " ".join(draw.choice(WORDS) for _ in range(draw.choice([0, 1, 1, 2, 3, 5, 8, 13])))


def main():
    draw = random.Random(11)
    rouge = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    pairs = []
    for _ in range(200):
        answer, reference = text(draw), text(draw)
        pairs.append(
            {
                "answer": answer,
                "reference": reference,
                "f1": compute_f1(reference, answer),
                "rouge_l": rouge.score(reference, answer)["rougeL"].fmeasure,
            }
        )
    ranks = []
    for size in (4, 7, 20, 50):
        x = [draw.randrange(6) / 2 for _ in range(size)]
        y = [value + draw.gauss(0, 1) if draw.random() < 0.7 else value for value in x]
        label = [index % 3 == 0 for index in range(size)]
        ranks.append(
            {
                "x": x,
                "y": y,
                "spearman": float(spearmanr(x, y).statistic),
                "label": label,
                "auc": float(roc_auc_score(label, x)),
            }
        )
    text_of = json.dumps({"pairs": pairs, "ranks": ranks}, indent=0)
    (HERE / "words.json").write_text(text_of + "\n")


main()
