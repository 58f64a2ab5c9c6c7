# From a configuration to figures, tables, claims and one page:
#     snakemake --cores all              everything, at the default scale (laptop)
#     snakemake --cores all fsf          one paper
#     snakemake --cores all fsf_fig1c    one artefact: its figure and its table
# with --config scale=smoke, --configfile FILE, --directory DIR and the like as usual.
from snakemake.utils import min_version

min_version("9.20")


include: "workflow/rules/common.smk"
include: "workflow/rules/together.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/sharpness.smk"
include: "workflow/rules/descent.smk"
include: "workflow/rules/init.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/claims.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/reference.smk"
include: "workflow/rules/own.smk"


rule all:
    default_target: True
    input:
        figure_files(DRAWN),
        CLAIMS,
        PAGE,
    localrule: True
