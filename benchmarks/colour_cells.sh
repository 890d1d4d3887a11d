#!/bin/sh
# The models of the colour cells, one after another; each goes on where it was stopped, so give the same line again.
#
#     sh benchmarks/colour_cells.sh ../shared/data/malaria_rgb_128.npz runs/colour-cells
#
# Hours on one core. Nothing is shipped of it yet.
set -e
data=$1 out=$2
common="--data $data --val-split val --augment dihedral --threads 1 --batch-size 32"
latent="--space latent --autoencoder $out/autoencoder/model.safetensors"
small="--gain 0 --shift 0 --arch ese_vovnet19b_slim --upsample 2 --split train-guide"

cfdiff train-classifier $common --clean --arch resnet10t --downsample 2 --split train-guide --steps 900 --eval-every 300 --seed 2 --out "$out/verifier"
cfdiff train-autoencoder $common --split train-guide --features "$out/verifier/model.safetensors" --latent 8 --steps 600 --eval-every 150 --out "$out/autoencoder"
cfdiff train-classifier $common --clean --arch regnetx_002 --split train-judge --steps 1100 --eval-every 275 --seed 1 --out "$out/judge"
cfdiff train-classifier $common $latent $small --steps 1500 --eval-every 500 --out "$out/guide"
cfdiff train-classifier $common $latent $small --clean --steps 900 --eval-every 300 --out "$out/checker"
cfdiff train-diffusion $common $latent --condition class --width 64 --patch 1 --split train-guide --steps 2000 --eval-every 500 --out "$out/diffusion"
