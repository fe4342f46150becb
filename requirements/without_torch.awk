# A hashed lock without torch and its CUDA libraries: `awk -f requirements/without_torch.awk requirements/run.txt`.
# They come in blocks: a line that begins with the name, hashes and notes below it, indented.
/^[A-Za-z0-9]/ { skip = /^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==/ }
!skip { print }
