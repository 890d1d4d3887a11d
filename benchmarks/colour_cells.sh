#!/bin/sh
# The models of the colour cells, one after another; each goes on where it was stopped, so give the same line again.
#
#     sh benchmarks/colour_cells.sh ../shared/data/malaria_rgb_128.npz runs/colour-cells
#
# Two hours and forty minutes on one core; the shipped weights of malaria-cells-rgb came of it. The judge comes before the autoencoder, whose
# validations then say how many of its verdicts are kept: a figure in the card, which steers nothing.
set -e
data=$1 out=$2
common="--data $data --val-split val --augment dihedral --threads 1 --batch-size 32"
latent="--space latent --autoencoder $out/autoencoder/model.safetensors"
small="--gain 0 --shift 0 --arch ese_vovnet19b_slim --upsample 2 --split train-guide"

cfdiff train-classifier $common --clean --arch resnet10t --downsample 2 --split train-guide --steps 900 --eval-every 300 --seed 2 --out "$out/verifier"
cfdiff train-classifier $common --clean --arch regnetx_002 --split train-judge --steps 1100 --eval-every 275 --seed 1 --out "$out/judge"
cfdiff train-autoencoder $common --split train-guide --features "$out/verifier/model.safetensors" --judge "$out/judge/model.safetensors" --latent 8 --steps 600 --eval-every 150 --out "$out/autoencoder"
cfdiff train-classifier $common $latent $small --steps 700 --eval-every 350 --out "$out/guide"
cfdiff train-classifier $common $latent $small --clean --steps 500 --eval-every 250 --out "$out/checker"
cfdiff train-diffusion $common $latent --parametrisation eps --augment flip --condition class --width 32 --mult 1,2,4 --attention 4 --patch 1 --batch-size 16 --ema 0.998 --split train-guide --max-minutes 48 --eval-every 700 --out "$out/diffusion"
cfdiff train-control --control outline --data $data --val-split val --split train-guide --augment flip --threads 1 --batch-size 16 --lr 1e-3 --steps 20000 --max-minutes 40 --diffusion "$out/diffusion/model.safetensors" --out "$out/control"
