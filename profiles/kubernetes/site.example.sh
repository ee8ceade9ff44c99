# Describe your cluster. Copy this file to site.sh, which git ignores, and take away the # before what you need.

# image=registry.example.org/wsss:latest   # built from envs/Dockerfile: its Python runs the clone in the working folder
# claim=wsss                                # persistent volume claim (ReadWriteMany) that all jobs and Snakemake itself mount
# mount=/data                               # where it is mounted, in jobs and in the pod that Snakemake runs in
# gpu=nvidia.com/gpu                        # the resource name of the GPUs
