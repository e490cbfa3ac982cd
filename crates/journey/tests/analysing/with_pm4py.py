"""Reads journeys' logs and nets by `pm4py`, and prints what it makes of each as one object of JSON, a line each.

`with_pm4py.py FOLDER fitness|paths…`, each folder with `log.xes`, `log.json`, `net.pnml` and `weights.json`
"""

import json
import sys
from collections import Counter
from pathlib import Path

import pm4py
from pm4py.algo.conformance.alignments.petri_net import algorithm as alignments
from pm4py.algo.conformance.alignments.petri_net.variants import dijkstra_no_heuristics as dijkstra
from pm4py.objects.conversion.log import converter


def told(log):
    """Variants, first, last, and what follows what, of the events at which somebody came somewhere."""
    variants = {" > ".join(variant): count for variant, count in variants_of(log).items()}
    follows, first, last = pm4py.discover_dfg(log)
    return {
        "variants": variants,
        "follows": {" > ".join(pair): count for pair, count in follows.items()},
        "first": dict(first),
        "last": dict(last),
    }


def variants_of(log):
    counts = pm4py.get_variants(log)
    return {variant: count if isinstance(count, int) else len(count) for variant, count in counts.items()}


def read(folder):
    """What the logs of a folder say, the log of those who came somewhere, and the net."""
    whole = pm4py.read_xes(str(folder / "log.xes"))
    log = whole[whole["lifecycle:transition"] == "start"]
    answer = {"xes": told(log), "traces": int(whole["case:concept:name"].nunique())}

    objects = pm4py.read_ocel2_json(str(folder / "log.json"))
    flat = pm4py.ocel_flattening(objects, "journey")
    flat = flat[flat["lifecycle"] == "start"]
    columns = {"case_id": "case:concept:name", "activity_key": "concept:name", "timestamp_key": "time:timestamp"}
    answer["ocel"] = told(pm4py.format_dataframe(flat, **columns))
    answer["objects"] = {name: int(count) for name, count in Counter(objects.objects["ocel:type"]).items()}

    # The net is one, whatever else is looked at.
    net, begin, end = pm4py.read_pnml(str(folder / "net.pnml"))
    assert len(begin) == 1 and len(end) == 1 and len(net.transitions) > 10
    return answer, log, (net, begin, end)


UNIT = 10_000


def aligned(traces, drawn, weigh):
    net, begin, end = drawn
    told = []
    model = {
        transition: 1 if transition.label is None else UNIT * weigh(transition.label) for transition in net.transitions
    }
    sync = {transition: 0 for transition in net.transitions if transition.label is not None}
    for trace in traces:
        parameters = {
            dijkstra.Parameters.PARAM_MODEL_COST_FUNCTION: model,
            dijkstra.Parameters.PARAM_SYNC_COST_FUNCTION: sync,
            dijkstra.Parameters.PARAM_TRACE_COST_FUNCTION: [UNIT * weigh(event["concept:name"]) for event in trace],
        }
        found = dijkstra.apply(trace, net, begin, end, parameters=parameters)
        told.append((found["cost"] // UNIT, sum(weigh(event["concept:name"]) for event in trace)))
    return told


def measured(folder, answer, log, drawn):
    """Those who are over, held against the net: optimal alignments, each deviation once, and by its weight."""
    over = log[log["case:state"] == "ended"]
    traces = converter.apply(over, variant=converter.Variants.TO_EVENT_LOG)
    weights = json.loads((folder / "weights.json").read_text())
    plain = alignments.apply_log(traces, *drawn, variant=alignments.Variants.VERSION_STATE_EQUATION_A_STAR)
    answer["fitness"] = pm4py.algo.evaluation.replay_fitness.variants.alignment_based.evaluate(plain)
    answer["of_log"] = 1 - sum(one["cost"] // UNIT for one in plain) / sum(one["bwc"] // UNIT for one in plain)
    answer["costs"] = sorted(one["cost"] // UNIT for one in plain)
    answer["weighted"] = aligned(traces, drawn, lambda activity: weights[activity])


arguments = iter(sys.argv[1:])
for folder, asked in zip(arguments, arguments):
    folder = Path(folder)
    answer, log, drawn = read(folder)
    if asked == "fitness":
        measured(folder, answer, log, drawn)
    print(json.dumps(answer), flush=True)
