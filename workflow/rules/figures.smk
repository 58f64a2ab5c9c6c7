# Figures, and the tables of exactly what they draw: seconds of work, so local. One rule an artefact, named like it, for
# whoever asks for this one; and one rule a room (at scale smoke several rooms) that makes all figures in one process, which
# is what everything else depends on. Both leave the same record, so that one never repeats what the other has made.
for COMPANY, RULE, NAMES in [rule for company in COMPANIES for rule in figure_rules(company)]:

    rule:
        name:
            RULE
        input:
            *figure_points(NAMES),
            **figure_inputs(NAMES, f"{RESULTS}/stages/{{name}}.parquet"),
        output:
            **figure_outputs(NAMES),
        log:
            together(NAMES, f"{LOGS}/figures/{{name}}.log"),
        benchmark:
            f"{RESULTS}/benchmarks/figures/{COMPANY}.tsv"  # one for both rules: Snakemake wants that of a target
        localrule: True
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=1000,
            runtime=10,
            gpu=0,
        params:
            # Functions of the output are no part of Snakemake's record: who made a figure is no reason to make it again.
            artefact=lambda wildcards, output: [Path(path).stem for path in output.png],
            together=lambda wildcards, output: len(output.png),
            scale=CONFIG.scale,
            code=figure_hash(COMPANY_OF[COMPANIES[COMPANY][0].name]),
        script:
            "../../scripts/figure.py"

    if len(NAMES) > 1:
        for NAME in NAMES:
            workflow.ruleorder(RULE, NAME)


# All of one paper, and other groups that artefacts name; without the ledger and the page, which are about all papers.
for GROUP, NAMES in groups().items():

    rule:
        name:
            GROUP
        input:
            figure_files(NAMES),
        localrule: True
