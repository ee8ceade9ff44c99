# Describe your cluster. Copy this file to site.sh, which git ignores, and take away the # before what you need.

# gpu_options=(-q gpu -A my_project)   # more options for qsub, for jobs that run a network
# cpu_options=(-q workq -A my_project) # the same for all other jobs
# dialect=torque                       # Torque's way to ask for CPUs and GPUs
