"""Runs the evaluation on the PyTorch model (used right after training).

    python -m builtin.eval.torch_run WEIGHTS [ANSWERS.jsonl]          # from models/
"""

import json
import sys

import torch

from .. import model as net
from .. import tokenizer
from ..chat import IM_END, render
from . import score

BATCH = 128


def evaluate(model, path=None, items=score.ITEMS):
    """`{task: (right, asked)}`; writes every answer to `path`."""
    bpe, listed = tokenizer.load(), score.items(items)
    stop = bpe.token_to_id(IM_END)
    prompts = [bpe.encode(render(i["messages"], i.get("tools"), True), add_special_tokens=False).ids for i in listed]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers = [""] * len(prompts)
    for at in range(0, len(order), BATCH):
        part = order[at : at + BATCH]
        for i, ids in zip(part, net.generate(model, [prompts[i] for i in part], stop)):
            answers[i] = bpe.decode(ids, skip_special_tokens=False)
    if path:
        with open(path, "w", encoding="utf-8") as file:
            for item, text in zip(listed, answers):
                file.write(json.dumps({"id": item["id"], "right": score.right(item, text), "answer": text}, ensure_ascii=False) + "\n")
    return score.table(listed, answers)


if __name__ == "__main__":
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(score.report(evaluate(net.load(sys.argv[1]).to(device), *sys.argv[2:3])))
