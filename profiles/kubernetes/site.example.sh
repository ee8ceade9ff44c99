# What your cluster is like. Copy this file to site.sh, which git ignores, and take away the # before what you need.

# image=registry.example.org/wsss:latest   # built from envs/Dockerfile; the working folder's clone is used, with the image's Python
# claim=wsss                                # persistent volume claim (ReadWriteMany) that all jobs and Snakemake itself see
# mount=/data                               # where it is mounted, in jobs and in the pod that Snakemake runs in
# gpu=nvidia.com/gpu                        # name of the GPUs
