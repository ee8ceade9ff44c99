# Tables and figures: one rule each, named <paper>_<table>, so that "snakemake seam_table2" is all there is to type; a
# paper's name means all of its.

for word, names in drawings.words(plan, DATASET).items():

    rule:
        name:
            word
        input:
            records(names),
        localrule: True

    workflow.get_rule(word).docstring = drawings.meaning_of(plan, word)


rule unknown:
    """What is asked for by any other word: says so."""
    input:
        no_such_target,
    output:
        "{word}",
    wildcard_constraints:
        word="[^/.]+",
    localrule: True


rule plan_drawing:
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
            drawings.spec(plan, w.dataset, w.kind, w.paper, w.name)
        ),
    shell:
        "printf %s {params.text:q} > {output}"


rule table:
    input:
        plan=f"{RESULTS}/{{dataset}}/tables/{{paper}}_{{name}}/config.yaml",
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
        code=plan.code("report"),
    shell:
        f"wsss table --plan {{input.plan}} --metrics {{input.metrics}} --out {{params.out}} {TEE}"


rule figure:
    input:
        plan=f"{RESULTS}/{{dataset}}/figures/{{paper}}_{{name}}/config.yaml",
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
        code=plan.code("report"),
    shell:
        f"wsss figure --plan {{input.plan}} --inputs {{input.files}} --out {{params.out}} {TEE}"


rule configure_page:
    output:
        f"{RESULTS}/{DATASET}/report/config.yaml",
    log:
        f"{RESULTS}/logs/{DATASET}/configure_page.log",
    localrule: True
    conda:
        ENV
    params:
        text=yaml.safe_dump({k: v for k, v in config.items() if k not in RESOURCES}),
    shell:
        "printf %s {params.text:q} > {output}"


rule page:
    input:
        config=f"{RESULTS}/{DATASET}/report/config.yaml",
        records=records(MADE_BY_DEFAULT),
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
        code=plan.code("report"),
    shell:
        "wsss page --config {input.config} --dataset {params.dataset} --inputs {input.records}"
        f" --out {{output.html}} {TEE}"
