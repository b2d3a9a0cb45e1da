"""What people look at: pictures, maps and animations as files, and what a picture says of how it was made."""
