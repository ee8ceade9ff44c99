# Tables, figures and claims: one rule each, named <paper>_<table>, so that a person types "snakemake --cores 2 seam_table2".
# The name of a paper means all of its targets.

for word, names in targets.words(plan, DATASET).items():

    rule:
        name:
            word
        input:
            files_of(names),
        localrule: True

    describe(word, targets.meaning_of(plan, word))


if not IS_MODULE:  # a file without a suffix may be made by the workflow around it

    rule unknown:
        """Reject a word that names no target."""
        input:
            no_such_target,
        output:
            "{word}",
        wildcard_constraints:
            word="[^/.]+",
        localrule: True


rule configure_drawing:
    """Everything that decides a table, figure or claims, and the digest of the code that draws it."""
    output:
        f"{RESULTS}/{{dataset}}/{{kind}}/{{word}}/config.yaml",
    log:
        f"{RESULTS}/logs/{{dataset}}/{{kind}}/configure_{{word}}.log",
    wildcard_constraints:
        kind="tables|figures|claims",
        word="[^/]+",
    localrule: True
    conda:
        ENV
    params:
        text=lambda w: as_yaml(drawing(w.dataset, w.kind, w.word)),
    shell:
        "printf %s {params.text:q} > {output:q}"


rule judge:
    """The claims of a paper, or of all, judged: as CSV, Markdown, LaTeX and HTML, and as a forest plot."""
    input:
        drawing=f"{RESULTS}/{{dataset}}/claims/{{word}}/config.yaml",
        metrics=drawn_from("claims"),
    output:
        csv=f"{RESULTS}/{{dataset}}/claims/{{word}}/table.csv",
        md=f"{RESULTS}/{{dataset}}/claims/{{word}}/table.md",
        tex=f"{RESULTS}/{{dataset}}/claims/{{word}}/table.tex",
        html=report(
            f"{RESULTS}/{{dataset}}/claims/{{word}}/table.html",
            caption="../report/table.rst",
            category="Claims",
            labels={"claims": "{word}", "data set": "{dataset}"},
        ),
        pdf=f"{RESULTS}/{{dataset}}/claims/{{word}}/figure.pdf",
        png=f"{RESULTS}/{{dataset}}/claims/{{word}}/figure.png",
        plot=report(
            f"{RESULTS}/{{dataset}}/claims/{{word}}/figure.html",
            caption="../report/figure.rst",
            category="Claims",
            labels={"claims": "{word}", "data set": "{dataset}"},
        ),
        record=f"{RESULTS}/{{dataset}}/claims/{{word}}/record.json",
    log:
        f"{RESULTS}/logs/{{dataset}}/claims/{{word}}.log",
    wildcard_constraints:
        word="[^/]+",
    conda:
        ENV
    params:
        out=subpath(output.csv, parent=True),
        title=said_of("claims", "title"),
        caption=said_of("claims", "caption"),
    shell:
        f"wsss judge --drawing {{input.drawing:q}} --metrics {{input.metrics:q}} --out {{params.out:q}} {TEE}"


rule table:
    """One table of a paper as CSV, Markdown, LaTeX and HTML."""
    input:
        drawing=f"{RESULTS}/{{dataset}}/tables/{{word}}/config.yaml",
        metrics=drawn_from("tables"),
    output:
        csv=f"{RESULTS}/{{dataset}}/tables/{{word}}/table.csv",
        md=f"{RESULTS}/{{dataset}}/tables/{{word}}/table.md",
        tex=f"{RESULTS}/{{dataset}}/tables/{{word}}/table.tex",
        html=report(
            f"{RESULTS}/{{dataset}}/tables/{{word}}/table.html",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{word}", "data set": "{dataset}"},
        ),
        record=f"{RESULTS}/{{dataset}}/tables/{{word}}/record.json",
    log:
        f"{RESULTS}/logs/{{dataset}}/tables/{{word}}.log",
    wildcard_constraints:
        word="[^/]+",
    conda:
        ENV
    resources:
        turn=1,
        mem_mb=megabytes("table"),
        runtime=minutes("table"),
    params:
        out=subpath(output.csv, parent=True),
        title=said_of("tables", "title"),
        caption=said_of("tables", "caption"),
    shell:
        f"wsss table --drawing {{input.drawing:q}} --metrics {{input.metrics:q}} --out {{params.out:q}} {TEE}"


rule figure:
    """One figure as PDF, PNG and HTML."""
    input:
        drawing=f"{RESULTS}/{{dataset}}/figures/{{word}}/config.yaml",
        files=drawn_from("figures"),
    output:
        pdf=f"{RESULTS}/{{dataset}}/figures/{{word}}/figure.pdf",
        png=f"{RESULTS}/{{dataset}}/figures/{{word}}/figure.png",
        html=report(
            f"{RESULTS}/{{dataset}}/figures/{{word}}/figure.html",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{word}", "data set": "{dataset}"},
        ),
        record=f"{RESULTS}/{{dataset}}/figures/{{word}}/record.json",
    log:
        f"{RESULTS}/logs/{{dataset}}/figures/{{word}}.log",
    wildcard_constraints:
        word="[^/]+",
    conda:
        ENV
    resources:
        turn=1,
        mem_mb=megabytes("figure"),
        runtime=minutes("figure"),
    params:
        out=subpath(output.pdf, parent=True),
        title=said_of("figures", "title"),
        caption=said_of("figures", "caption"),
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
        text=as_yaml(configuration.of_results(config)),
    shell:
        "printf %s {params.text:q} > {output:q}"


rule page:
    """All claims, tables and figures on one page, with the state of each."""
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
