"""Training: from clips to weights, for the small model that ships with the pack and for the released ones.

seeds        every random number from a name and a step, so that a run can stop anywhere and go on the same
motions      the kinds of motion and what captions say of them
textures     what scenes are painted with
scenes       pictures drawn at random, to be moved
clips        scenes in motion, with captions: procedural data without end
videos       the same from folders and tar files of videos
motion       which motion a clip shows, by warping its first frame
measures     PSNR, and how alike two pictures look
recipe       the JSON that says what is trained, on what, in which stages
model        the parts that are trained, new or loaded, and the file they end in
objectives   what is minimised in each stage
optimiser    AdamW on full-precision copies, with averaged weights
trainer      the loop: resumable at any step, reported as it goes
lora         small additions to a large model, in files that the host reads
"""
