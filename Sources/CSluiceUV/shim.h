#include<uv.h>
