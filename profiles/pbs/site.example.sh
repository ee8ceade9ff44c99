# What your cluster is like. Copy this file to site.sh, which git ignores, and take away the # before what you need.

# gpu_options=(-q gpu -A my_project)   # more options for qsub: of jobs that call a network
# cpu_options=(-q workq -A my_project) # of all others
# dialect=torque                       # Torque's way to ask for CPUs and GPUs
