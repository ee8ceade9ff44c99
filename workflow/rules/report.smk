# Tables and figures: one rule each, named <paper>_<table>, so that "snakemake seam_table2" is all there is to type; a
# paper's name means all of its.

for word, names in targets.words(plan, DATASET).items():

    rule:
        name:
            word
        input:
            files_of(names),
        localrule: True

    workflow.get_rule(word).docstring = targets.meaning_of(plan, word)


rule unknown:
    """What is asked for by any other word: says so."""
    input:
        no_such_target,
    output:
        "{word}",
    wildcard_constraints:
        word="[^/.]+",
    localrule: True


rule configure_drawing:
    """Everything that decides a table or figure, and the digest of the code that draws it."""
    output:
        f"{RESULTS}/{{dataset}}/{{kind}}/{{paper}}_{{name}}/config.yaml",
    log:
        f"{RESULTS}/logs/{{dataset}}/{{kind}}/configure_{{paper}}_{{name}}.log",
    wildcard_constraints:
        kind="tables|figures",
        paper="[^/_]+",
    localrule: True
    conda:
        ENV
    params:
        text=lambda w: yaml.safe_dump(
            drawings.drawing(plan, w.dataset, w.kind, w.paper, w.name)
        ),
    shell:
        "printf %s {params.text:q} > {output:q}"


rule table:
    """One table of a paper as CSV, Markdown, LaTeX and HTML."""
    input:
        drawing=f"{RESULTS}/{{dataset}}/tables/{{paper}}_{{name}}/config.yaml",
        metrics=drawn_from("tables"),
    output:
        csv=f"{RESULTS}/{{dataset}}/tables/{{paper}}_{{name}}/table.csv",
        md=f"{RESULTS}/{{dataset}}/tables/{{paper}}_{{name}}/table.md",
        tex=f"{RESULTS}/{{dataset}}/tables/{{paper}}_{{name}}/table.tex",
        html=report(
            f"{RESULTS}/{{dataset}}/tables/{{paper}}_{{name}}/table.html",
            caption="../report/table.rst",
            category="Tables",
            labels={"paper": "{paper}", "table": "{name}", "data set": "{dataset}"},
        ),
        record=f"{RESULTS}/{{dataset}}/tables/{{paper}}_{{name}}/record.json",
    log:
        f"{RESULTS}/logs/{{dataset}}/tables/{{paper}}_{{name}}.log",
    wildcard_constraints:
        paper="[^/_]+",
    conda:
        ENV
    params:
        out=subpath(output.csv, parent=True),
        title=lambda w: drawings.about(plan, "tables", w.paper, w.name)["title"],
        caption=lambda w: drawings.about(plan, "tables", w.paper, w.name)["caption"],
    shell:
        f"wsss table --drawing {{input.drawing:q}} --metrics {{input.metrics:q}} --out {{params.out:q}} {TEE}"


rule figure:
    """One figure as PDF and PNG."""
    input:
        drawing=f"{RESULTS}/{{dataset}}/figures/{{paper}}_{{name}}/config.yaml",
        files=drawn_from("figures"),
    output:
        pdf=f"{RESULTS}/{{dataset}}/figures/{{paper}}_{{name}}/figure.pdf",
        png=report(
            f"{RESULTS}/{{dataset}}/figures/{{paper}}_{{name}}/figure.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"paper": "{paper}", "figure": "{name}", "data set": "{dataset}"},
        ),
        record=f"{RESULTS}/{{dataset}}/figures/{{paper}}_{{name}}/record.json",
    log:
        f"{RESULTS}/logs/{{dataset}}/figures/{{paper}}_{{name}}.log",
    wildcard_constraints:
        paper="[^/_]+",
    conda:
        ENV
    params:
        out=subpath(output.pdf, parent=True),
        title=lambda w: drawings.about(plan, "figures", w.paper, w.name)["title"],
        caption=lambda w: drawings.about(plan, "figures", w.paper, w.name)["caption"],
    shell:
        f"wsss figure --drawing {{input.drawing:q}} --inputs {{input.files:q}} --out {{params.out:q}} {TEE}"


rule configure_page:
    """The configuration that the report page shows."""
    output:
        f"{RESULTS}/{DATASET}/report/config.yaml",
    log:
        f"{RESULTS}/logs/{DATASET}/configure_page.log",
    localrule: True
    conda:
        ENV
    params:
        text=yaml.safe_dump(configuration.of_results(config)),
    shell:
        "printf %s {params.text:q} > {output:q}"


rule page:
    """All tables and figures on one page, with the state of each."""
    input:
        config=f"{RESULTS}/{DATASET}/report/config.yaml",
        shown=files_of(MADE_BY_DEFAULT),
    output:
        html=f"{RESULTS}/{DATASET}/report/index.html",
        record=f"{RESULTS}/{DATASET}/report/index.record.json",
    log:
        f"{RESULTS}/logs/{DATASET}/page.log",
    localrule: True
    conda:
        ENV
    params:
        dataset=DATASET,
    shell:
        "wsss page --config {input.config:q} --dataset {params.dataset:q} --inputs {input.shown:q}"
        f" --out {{output.html:q}} {TEE}"
