#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The main job: WordNet -> tokenizer -> training -> a table on held-out synsets -> the saved model, judged again
# by a new process. `make quickstart` builds the program and calls this; it starts afresh each time.
#
#   examples/quickstart/run.sh [--section.key=value ...]     further arguments go to `veomni train`
set -euo pipefail
cd "$(dirname "$0")/../.."

veomni=${VEOMNI_BIN:-build/release/bin/veomni}
python=.venv/bin/python
recipe=recipes/quickstart.yaml
data=data/quickstart
out=out/quickstart

heading() { printf '\n== %s\n' "$1"; }

heading "1/5 data: WordNet's glosses as questions and answers"
begin=$SECONDS
"$python" examples/quickstart/prepare.py --data "$data"

heading "2/5 tokenizer: a byte-level BPE of 2,048 entries, learned from the training text"
"$veomni" data train-tokenizer --vocab-size 2048 --out "$data/tokenizer" "$data/corpus.txt"
prepared=$SECONDS

heading "3/5 training: $recipe"
rm -rf "$out"
"$veomni" train "$recipe" "$@"
trained=$SECONDS

heading "4/5 the saved Hugging Face directory, judged by a new process"
"$veomni" eval "$recipe" --checkpoint "$out/hf" --out "$out/eval_reloaded.json"
judged=$SECONDS

heading "5/5 result"
"$python" examples/quickstart/summary.py --out "$out" \
  --seconds data "$((prepared - begin))" training "$((trained - prepared))" reload "$((judged - trained))"
