"""Reads a journey's logs and its net by `pm4py`, and prints what it makes of them as one object of JSON.

`with_pm4py.py LOG.xes LOG.json NET.pnml WEIGHTS.json [fitness]`
"""

import json
import sys
from collections import Counter

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


xes, ocel, pnml, weights, *more = sys.argv[1:]
whole = pm4py.read_xes(xes)
log = whole[whole["lifecycle:transition"] == "start"]
answer = {"xes": told(log), "traces": int(whole["case:concept:name"].nunique())}

objects = pm4py.read_ocel2_json(ocel)
flat = pm4py.ocel_flattening(objects, "journey")
flat = flat[flat["lifecycle"] == "start"]
columns = {"case_id": "case:concept:name", "activity_key": "concept:name", "timestamp_key": "time:timestamp"}
answer["ocel"] = told(pm4py.format_dataframe(flat, **columns))
answer["objects"] = {name: int(count) for name, count in Counter(objects.objects["ocel:type"]).items()}

# The net is one, whatever else is looked at.
net, begin, end = pm4py.read_pnml(pnml)
assert len(begin) == 1 and len(end) == 1 and len(net.transitions) > 10

if not more:
    print(json.dumps(answer))
    sys.exit()

# Those who are over, held against the net: optimal alignments, each deviation once, and by its weight.
over = log[log["case:state"] == "ended"]
traces = converter.apply(over, variant=converter.Variants.TO_EVENT_LOG)
weights = json.load(open(weights))
UNIT = 10_000


def aligned(weigh):
    told = []
    shortest = None
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


plain = alignments.apply_log(traces, net, begin, end, variant=alignments.Variants.VERSION_STATE_EQUATION_A_STAR)
answer["fitness"] = pm4py.algo.evaluation.replay_fitness.variants.alignment_based.evaluate(plain)
answer["of_log"] = 1 - sum(one["cost"] // UNIT for one in plain) / sum(one["bwc"] // UNIT for one in plain)
answer["costs"] = sorted(one["cost"] // UNIT for one in plain)
answer["weighted"] = aligned(lambda activity: weights[activity])
print(json.dumps(answer))
