"""In which layers are units dead before training, by initialisation, and after?"""
