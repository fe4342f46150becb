"""An evaluation as a config's steps run it, with a network of the test's own in place of loaded weights."""


def run_evaluation(parser, network):
    """Fit the baselines, run the evaluator, and give its state."""
    parser["network"] = network
    parser.get_parsed_content("mean_volume").fit(parser.get_parsed_content("training_volumes"))
    for name in ("kl_mean", "nearest_film"):
        parser.get_parsed_content(name).fit(parser.get_parsed_content("training_pairs"))
    evaluator = parser.get_parsed_content("evaluator")
    evaluator.run()
    return evaluator.state
