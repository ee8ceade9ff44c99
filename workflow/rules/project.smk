# The folder of this project, and its configuration where another workflow uses it as a module.
import os
import shutil
import tempfile
from pathlib import Path

from snakemake.common.configfile import load_configfile
from snakemake.utils import update_config


def project_folder():
    """Return the folder of this project: its clone, or one made of the repository that Snakemake reads file by file."""
    here = workflow.current_basedir
    if not (hasattr(here, "hosted_repo") or hasattr(here, "repo_path")):
        return Path(here).parent.parent
    import git

    repository = (
        git.Repo(here.repo_path)
        if hasattr(here, "repo_path")
        else here.hosted_repo.repo
    )
    commit = repository.commit(here.ref).hexsha
    folder = Path(workflow.sourcecache.cache_path) / "wsss" / commit
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = tempfile.mkdtemp(dir=folder.parent)
        git.Repo.clone_from(repository.git_dir, part).git.checkout("--detach", commit)
        try:
            os.rename(part, folder)
        except OSError:  # another process was faster
            shutil.rmtree(part)
    return folder


def configuration_of_module(given):
    """Return the project's configuration with the changes of the workflow around it.

    With `config:` that workflow gives only its changes; without it, its whole configuration, whose other keys are dropped.
    """
    own = load_configfile(OWN_CONFIG)
    if not workflow.modifier.skip_configfile:
        return {key: value for key, value in given.items() if key in own}
    update_config(own, given)
    return own


IS_MODULE = not workflow.modifier.is_main_snakefile()
moved = workflow.modifier.path_modifier
if IS_MODULE and (moved.prefix or moved.modifies_prefixes):
    raise WorkflowError(
        "prefix and replace_prefix would move some files of this workflow and not others: set 'results' in its config"
    )
PROJECT = project_folder()
OWN_CONFIG = f"{PROJECT}/config.yaml"
known_as = (
    workflow.modifier.modify_rulename
)  # the name of a rule in the workflow around this one


def config_files():
    """List the files of the configuration, the weakest first. Those of the command line win, and Snakemake has them first."""
    if IS_MODULE:
        return [OWN_CONFIG]
    given = workflow.overwrite_configfiles
    named = [file for file in workflow.configfiles if file not in given]
    return [*named, *given]
