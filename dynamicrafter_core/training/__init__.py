"""Training: from clips to weights, for the small model that ships with the pack and for the released ones.

seeds          every random number from a name and a step, so that a run can stop anywhere and go on the same
motions        the kinds of motion and what captions say of them
textures       what scenes are painted with
scenes         pictures drawn at random, to be moved
clips          scenes in motion, with captions: procedural data without end
videos         the same from folders and tar files of videos
motion         which motion a clip shows, by warping its first frame
measures       PSNR, and how alike two pictures look
sources        which of these kinds of data a recipe asks for
recipe         the JSON that says what is trained, on what, in which stages
model          the parts that are trained, new or loaded, and the file they end in
initial        weights to begin with, where none are loaded
growth         a loaded part with more layers, which begin silent
conditions     from a batch of clips to what the UNet is given
objectives     what is minimised in each stage
distillation   few steps without guidance, learned from many with it
checkpointing  less memory for more time
lora           small additions to a large model, in files that the host reads
optimiser      AdamW on full-precision copies, with averaged weights
ranks          several processes, one training
generate       clips from a model under training
evaluate       what a run measures of itself on its way
trainer        the loop: resumable at any step, reported as it goes
state          a run's folder: where it stands, its log and its result
report         the same as a page with curves and samples
command        `dynamicrafter train`
"""
