# d2vpr_ros on a Jetson Orin with JetPack 6.1 or 6.2 (L4T r36.4, Ubuntu 22.04, Python 3.10, CUDA 12.6, TensorRT 10.3).
# UNTESTED: written from the vendors' documentation; nobody has run it yet. From the root of the repository:
#   docker build -f docker/jetpack6.Dockerfile -t d2vpr_ros .
#   docker run --rm -it --runtime nvidia --network host --ipc host -v $PWD:/data d2vpr_ros \
#     d2vpr_localizer --ros-args -p map:=/data/site.d2map -p weights:=/data/nano.onnx
# nano.onnx comes from a machine with torch: d2vpr export nano -o nano.onnx --precision fp16
FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0

ENV DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8
RUN apt-get update && apt-get install -y --no-install-recommends curl gnupg python3-pip \
    && curl -fsSL https://raw.githubusercontent.com/ros/rosdistro/master/ros.key \
       -o /usr/share/keyrings/ros-archive-keyring.gpg \
    && echo "deb [signed-by=/usr/share/keyrings/ros-archive-keyring.gpg] http://packages.ros.org/ros2/ubuntu jammy main" \
       > /etc/apt/sources.list.d/ros2.list \
    && apt-get update && apt-get install -y --no-install-recommends \
       ros-humble-ros-base ros-humble-cv-bridge ros-humble-tf2-ros-py ros-humble-sensor-msgs-py \
    && rm -rf /var/lib/apt/lists/*

# numpy 1, for which Humble's cv_bridge is compiled. onnxruntime-gpu for JetPack 6 is on NVIDIA's Jetson index only.
COPY requirements /src/requirements
RUN pip3 install --no-cache-dir -r /src/requirements/arrays-with-ros.txt -r /src/requirements/runtime.txt \
    && pip3 install --no-cache-dir --no-deps onnxruntime-gpu --index-url https://pypi.jetson-ai-lab.io/jp6/cu126 \
    && pip3 install --no-cache-dir flatbuffers packaging protobuf

COPY . /src
RUN pip3 install --no-cache-dir --no-deps /src
ENV FASTRTPS_DEFAULT_PROFILES_FILE=/src/config/fastdds.xml
ENTRYPOINT ["/bin/bash", "-c", "source /opt/ros/humble/setup.bash && exec \"$@\"", "--"]
