"""Scores the pairs of a set with Splink: records.csv pairs.csv, and where the second list begins.

The model for FEBRL's sets is that of Splink's own example (deduplicate and link febrl); where a set has
telephone numbers, e-mail addresses and sex, they are added with Splink's comparisons for them. Prints
its version and the seconds that training and predicting took.
"""

import sys
import time
import warnings

import pandas as pd
import splink
import splink.comparison_library as cl
from splink import DuckDBAPI, Linker, SettingsCreator, block_on

warnings.filterwarnings("ignore")


def main():
    source, target, second = sys.argv[1:]
    records = pd.read_csv(source, dtype=str, keep_default_na=True)
    records["unique_id"] = records["unique_id"].astype(int)
    started = time.perf_counter()
    api = DuckDBAPI()
    if second == "none":
        link_type, tables = "dedupe_only", api.register(records)
    else:
        at = int(second)
        link_type = "link_only"
        tables = [api.register(records[records.unique_id < at]), api.register(records[records.unique_id >= at])]
    comparisons = [
        cl.NameComparison("given_name").configure(term_frequency_adjustments=True),
        cl.NameComparison("surname").configure(term_frequency_adjustments=True),
        cl.DateOfBirthComparison(
            "date_of_birth", input_is_string=True, datetime_format="%Y%m%d", invalid_dates_as_null=True
        ),
        cl.DamerauLevenshteinAtThresholds("soc_sec_id", [1, 2]),
        cl.ExactMatch("street_number").configure(term_frequency_adjustments=True),
        cl.DamerauLevenshteinAtThresholds("postcode", [1, 2]).configure(term_frequency_adjustments=True),
    ]
    blocking = [
        block_on("given_name", "surname"),
        "l.given_name = r.surname and l.surname = r.given_name",
        block_on("date_of_birth"),
        block_on("soc_sec_id"),
        block_on("state", "address_1"),
        block_on("street_number", "address_1"),
        block_on("postcode"),
    ]
    if records["phone"].notna().any():
        comparisons += [
            cl.ExactMatch("sex"),
            cl.DamerauLevenshteinAtThresholds("phone", [1]),
            cl.EmailComparison("email"),
        ]
        blocking += [block_on("phone"), block_on("email")]
        # Streets of one name are in every town there.
        blocking.remove(blocking[4])
    settings = SettingsCreator(
        unique_id_column_name="unique_id",
        link_type=link_type,
        blocking_rules_to_generate_predictions=blocking,
        comparisons=comparisons,
    )
    linker = Linker(tables, settings, log_level=40)
    linker.training.estimate_probability_two_random_records_match(
        [
            block_on("soc_sec_id"),
            block_on("given_name", "surname", "date_of_birth"),
        ],
        recall=0.8,
    )
    linker.training.estimate_u_using_random_sampling(max_pairs=5e6, seed=1)
    for rule in (block_on("date_of_birth"), block_on("postcode")):
        linker.training.estimate_parameters_using_expectation_maximisation(
            rule, estimate_without_term_frequencies=True
        )
    pairs = linker.inference.predict(threshold_match_weight=-20).as_pandas_dataframe()
    seconds = time.perf_counter() - started
    pairs = pairs[["unique_id_l", "unique_id_r", "match_weight"]]
    pairs.to_csv(target, index=False)
    print("version", splink.__version__)
    print("seconds", f"{seconds:.3f}")


main()
