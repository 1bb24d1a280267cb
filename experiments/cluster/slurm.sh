#!/bin/bash
# An index over LaMem on two nodes of four GPUs: sbatch experiments/cluster/slurm.sh
#SBATCH --job-name=memviz
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=02:00:00
#SBATCH --requeue
set -euo pipefail

export RAY_USAGE_STATS_ENABLED=0 RAY_ENABLE_UV_RUN_RUNTIME_ENV=0
# Else whoever reaches these nodes may run code in this job. The token lies in the home folder, which nodes share.
export RAY_AUTH_MODE=token
uv run --no-sync ray get-auth-token --generate > /dev/null
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000)) # so that two jobs on a node do not meet

# Starts Ray on all nodes, runs what stands behind -- on the first one, and ends Ray. The photographs and runs/ must lie
# on a disk that all nodes see, under the same path. A job that was ended continues when it is submitted again.
srun uv run --no-sync ray symmetric-run --address "$head:$port" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "$SLURM_GPUS_ON_NODE" -- \
  memviz index resmem lamem/images --out runs/lamem --batch-size 128 --workers 8 --ray auto
