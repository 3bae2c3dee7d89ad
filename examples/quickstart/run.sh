#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The main job: one small model that reads pictures, hears speech, explains words and draws. Data -> text tokenizer ->
# picture tokenizer -> the omni model -> a table on held-out data -> the saved model, judged again by a new process.
# `make quickstart` builds the program and calls this; it starts afresh each time.
#
#   examples/quickstart/run.sh [--section.key=value ...]     arguments go to the second `veomni train`
#
# VEOMNI_SEED=N trains both models from another seed.
set -euo pipefail
cd "$(dirname "$0")/../.."

veomni=${VEOMNI_BIN:-build/release/bin/veomni}
here=examples/quickstart
data=data/quickstart
out=out/quickstart
seed=(${VEOMNI_SEED:+"--train.seed=$VEOMNI_SEED"})

phases=()
begin=$SECONDS
# A thread that waits for others sleeps: on a machine that does something else too, spinning takes several times as long.
python() { OMP_WAIT_POLICY=passive .venv/bin/python "$@"; }
heading() { printf '\n== %s\n' "$1"; }
# Notes the seconds since the last phase under a name.
took() { phases+=("$1" "$((SECONDS - begin))"); begin=$SECONDS; }

heading "1/7 data: pictures of clothes, two speakers, a dictionary"
python $here/prepare.py --data $data
took data

heading "2/7 text tokenizer: a byte-level BPE of 2,048 entries, learned from the training text"
"$veomni" data train-tokenizer --vocab-size 2048 --format jsonl --out $data/tokenizer $data/texts_for_tokenizer.jsonl
took tokenizer

heading "3/7 picture tokenizer: recipes/quickstart_vq.yaml"
rm -rf $out
"$veomni" train recipes/quickstart_vq.yaml "${seed[@]}"
took "picture tokenizer"

heading "4/7 omni model: recipes/quickstart.yaml"
"$veomni" train recipes/quickstart.yaml "${seed[@]}" "$@"
took "omni model"

heading "5/7 its drawings, before a judge that knows real pictures only"
python $here/judge.py --data $data --pictures $out/omni/pictures --eval $out/omni/eval.json
took judge

heading "6/7 the saved Hugging Face directory, evaluated and judged by new processes"
mkdir -p $out/reload
"$veomni" eval recipes/quickstart.yaml --checkpoint $out/omni/hf --out $out/reload/eval.json
python $here/judge.py --data $data --pictures $out/reload/pictures --eval $out/reload/eval.json
python $here/summary.py --compare $out/omni/eval.json $out/reload/eval.json
took reload

heading "7/7 result"
python $here/probe.py --data $data --eval $out/omni/eval.json
took probes
python $here/summary.py --out $out --seconds "${phases[@]}"
